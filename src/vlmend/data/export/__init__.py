"""Data sets written for other programs, and so that the sources `jsonl` and `hf` read the same back.

    trl           {"prompt": [messages], "completion" | "chosen", "rejected": [message], "label", "images": [path]}
    trl_messages  {"messages", "images"}, for training on every answer of a conversation
    llamafactory  {"conversations": [{"from", "value"}], "chosen", "rejected", "label", "images"}; dataset_info.json
    swift         {"messages", "rejected_response", "rejected_images", "label", "images"}, as ms-swift reads it
    alpaca        {"instruction", "input", "output", "history", "system"}; dataset_info.json
    openai        {"messages": [{"role", "content"}]}; for pairs "input", "preferred_output", "non_preferred_output"
    llava         {"id", "image": path, "conversations": [{"from", "value"}]}, pictures marked `<image>` in the text
    sharegpt      {"conversations": [{"from", "value"}], "images": [path]}
    parquet       TRL's columns, a picture as {bytes, path}

What a format has no key for (labels, cluster, further answers) stands in keys of our own, which other programs ignore.
A turn that is not learned has `loss: false` (openai: `weight: 0`), an answer to avoid `label: false`. What the program
that a format is for would lose or learn otherwise is refused, or counted in `Written.notes`.

The text `<image>` cannot be said where pictures are marks in texts: it is refused there.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmend.data.export import files, peers
from vlmend.data.export.album import Album, Naming
from vlmend.data.export.forms import FORMS, OURS, Item, Row, texts_of
from vlmend.data.inside import OPTION
from vlmend.data.rows import refuse_halves
from vlmend.data.sources import vlguard
from vlmend.data.turns import MARK
from vlmend.errors import DataError, UnknownName, UsageError
from vlmend.registry import Spec
from vlmend.store import write_atomic
from vlmend.types import Example, Pair

AS_CODED = "vlguard_as_coded"
ENDINGS = (".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Written:
    """What an export left behind.

    outside: whether it names pictures that do not lie in its own folder. notes: what its program would lose or learn
    otherwise, with counts. taken: how its program is given the file.
    """

    file: Path
    examples: int
    pairs: int
    outside: bool = False
    notes: tuple[str, ...] = ()
    taken: str = ""

    @property
    def spec(self) -> str:
        """What reads it again."""
        return f"jsonl:{self.file}" + (f"?{OPTION}=true" if self.outside else "")


def write(
    items: Iterable[Item], form: str, out: Path, *, embed: bool = False, absolute: bool = False, bare: bool = False
) -> Written:
    """Write examples or pairs, as they come, to a file or to `data.…` in a folder; whole or not at all.

    Pictures are named relative to the file, by `absolute` paths, or put inside (`embed`). `bare`: without keys of our
    own. Raises UnknownName, UsageError for a file name that does not fit the format, DataError for what it cannot say.
    """
    if form not in FORMS:
        raise UnknownName("format", form, [*FORMS, AS_CODED])
    if embed and absolute:
        raise UsageError("pictures are inside (embed) or named by absolute paths, not both")
    about = FORMS[form]
    file = _file(out, form, embed=embed)
    file.parent.mkdir(parents=True, exist_ok=True)
    if about.entry:
        peers.check_info(file.parent)
    naming: Naming = "embedded" if embed else "absolute" if absolute else "relative"
    cells = file.suffix == ".parquet" and (embed or not about.entry)  # LLaMA-Factory finds files by names alone
    album, tally = Album(file.parent, naming, cells), peers.Tally(blocks=file.suffix == ".jsonl")
    part = file.with_name(f".{file.name}.part")
    try:
        _writer(file, form, album)(_rows(items, form, album, tally, bare=bare), part)
        if about.lists and file.suffix != ".parquet" and 0 < tally.keys["images"] < tally.rows:
            files.add_to_all(part, "images", [])
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    name = peers.add_entry(file, about, tally) if about.entry and tally.rows else ""
    return Written(
        file,
        tally.counts[Example],
        tally.counts[Pair],
        bool(album.outside),
        peers.notes(tally, about),
        peers.taken(file, form, tally, album, name),
    )


def as_coded(spec: str, out: Path) -> Written:
    """Write `vlguard_as_coded` of a spec such as `vlguard:DIR#train`. Raises UsageError for another source."""
    asked = Spec.parse(spec)
    if asked.name != "vlguard" or not asked.argument or asked.options or "[" in asked.split:
        raise UsageError(f"format {AS_CODED} writes a whole split of vlguard, as in vlguard:DIR#train (got {spec!r})")
    text = vlguard_as_coded(Path(asked.argument), asked.split or "train")
    file = _file(out, "llava", embed=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text.encode())
    return Written(file, len(json.loads(text)), 0)


def _file(out: Path, form: str, *, embed: bool) -> Path:
    """The file to write. Raises UsageError for a kind of file that the format, or its program, cannot be in."""
    about = FORMS[form]
    tables_only = form == "parquet" or (embed and not about.urls)
    if out.suffix not in ENDINGS:
        return out / f"data{'.parquet' if tables_only else about.suffix}"
    fitting = [".parquet"] if tables_only else [".json", ".jsonl", *([".parquet"] if about.tables else [])]
    if out.suffix not in fitting:
        inside = " with pictures inside" if tables_only and form != "parquet" else ""
        raise UsageError(f"format {form}{inside} is written to {' or '.join(fitting)}, not to {out.name}")
    return out


def _writer(file: Path, form: str, album: Album) -> Callable[[Iterator[Row], Path], None]:
    if file.suffix == ".parquet":
        return files.parquet_writer(form, album)
    return files.write_lines if file.suffix == ".jsonl" else files.write_list


def _rows(items: Iterable[Item], form: str, album: Album, tally: peers.Tally, *, bare: bool) -> Iterator[Row]:
    about = FORMS[form]
    for item in items:
        if isinstance(item, Pair) and not about.pairs:
            raise DataError(f"{item.id!r} is a preference pair, which {form} cannot say; trl can")
        if tally.rows and not tally.counts[type(item)]:
            raise DataError(f"{item.id!r} is of another kind than those before; a file holds examples or pairs")
        try:
            refuse_halves([*texts_of(item)])
            if about.alternates:
                peers.refuse_order(item)
            row = about.row(item, album)
        except DataError as error:
            raise DataError(f"{item.id!r} cannot be written as {form}: {error}") from error
        if bare:
            row = {key: value for key, value in row.items() if key not in OURS}
        tally.add(item, row, about)
        yield row


def vlguard_as_coded(path: Path, split: str = "train") -> str:
    """The file that VLGuard's own converter writes, byte for byte.

    Both questions of a safe picture become one conversation of four messages, in an order shuffled by one generator
    seeded with 0; only the first message carries `<image>`, with no newline after it.
    """
    order = random.Random(0)
    rows: list[Row] = []
    for record in vlguard.records(path, split):
        asks = vlguard.published_order(vlguard.questions(record), order)
        said = [
            turn
            for ask in asks
            for turn in ({"from": "human", "value": ask.question}, {"from": "gpt", "value": ask.answer})
        ]
        said[0]["value"] = MARK + said[0]["value"]
        kept = record.model_dump(exclude={"asks"})
        rows.append({**kept, "conversations": said})
    return json.dumps(rows, indent=2)
