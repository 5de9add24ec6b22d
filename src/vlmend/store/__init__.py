"""What a run leaves on disk: append-only journals of JSON lines, and the run folder made of them.

A process killed at any byte leaves a journal that opens, loses at most the line it was writing, and goes on.
Everything is joined by id; nothing here knows the position of a row. What is read is checked: that no row is lost
(the seals), each field is of its type, a picture is the one that was shown, a verdict on the answer it judged.

    manifest.json     settings that identify the run, what made it (every session), and a seal of each record file
    examples.jsonl    what was asked: the example after its attack, and the id of the response it awaits
    responses.jsonl   journal, one row per response id (a later row of the same id wins)
    verdicts.jsonl    journal, one row per judge, response and example (likewise)
    metrics.json      the rates
    images/           pictures that were drawn rather than read from files, by content hash
"""

from vlmend.store.files import (
    Journal,
    Row,
    append_whole,
    cache_folder,
    full_disk,
    read_json,
    read_rows,
    remove_stale,
    room_for,
    write_atomic,
    write_json,
)
from vlmend.store.nouns import (
    example_from_json,
    example_to_json,
    judged_key,
    response_from_json,
    response_to_json,
    verdict_from_json,
    verdict_to_json,
)
from vlmend.store.run import Asked, Run, find_runs

__all__ = [
    "Asked",
    "Journal",
    "Row",
    "Run",
    "append_whole",
    "cache_folder",
    "example_from_json",
    "example_to_json",
    "find_runs",
    "full_disk",
    "judged_key",
    "read_json",
    "read_rows",
    "remove_stale",
    "response_from_json",
    "response_to_json",
    "room_for",
    "verdict_from_json",
    "verdict_to_json",
    "write_atomic",
    "write_json",
]
