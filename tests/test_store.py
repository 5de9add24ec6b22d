"""Laws of the store: nothing complete is lost, nothing torn is kept, nothing damaged is passed over."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from vlmend.errors import DataError, StoreError
from vlmend.store import (
    Asked,
    Journal,
    Run,
    example_from_json,
    example_to_json,
    find_runs,
    full_disk,
    judged_key,
    read_rows,
    response_from_json,
    response_to_json,
    verdict_from_json,
    verdict_to_json,
    write_atomic,
)
from vlmend.store.nouns import FITS
from vlmend.types import Example, Expected, Finish, Image, Message, Record, Response, Role, Verdict

ROWS = [{"id": "a", "text": "plain"}, {"id": "b", "text": "line\nbreak \u2028 ü \ud800"}, {"id": "c", "text": ""}]


def _journal(path: Path) -> bytes:
    with Journal(path) as journal:
        for row in ROWS:
            journal.append(row)
    return path.read_bytes()


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Cut the file anywhere: the complete rows are there, and writing goes on behind them."""
    whole = _journal(tmp_path / "whole.jsonl")
    path = tmp_path / "torn.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert read_rows(path) == ROWS[:complete]
        with Journal(path) as journal:
            journal.append({"id": "new"})
        assert read_rows(path) == [*ROWS[:complete], {"id": "new"}]


def test_torn_line_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + b"x" * 200_000)
    with Journal(path) as journal:
        journal.append({"id": "b"})
    assert read_rows(path) == [{"id": "a"}, {"id": "b"}]


@pytest.mark.parametrize("damage", [b'{"id": \n', b"[1]\n", b"\n", b"\x00\x00\n", b"\xff\xfe\n"])
def test_damage_in_the_middle_names_the_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + damage + b'{"id":"b"}\n')
    with pytest.raises(StoreError, match="line 2"):
        read_rows(path)


def test_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    with Journal(path), pytest.raises(StoreError, match="another process"):
        Journal(path)
    Journal(path).close()


def test_killed_writer_leaves_its_rows_and_its_lock_goes(tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl"
    code = (
        "import sys, itertools\nfrom pathlib import Path\nfrom vlmend.store import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for i in itertools.count(): journal.append({'i': i, 'text': 'x' * (i % 3000)})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    with Journal(path) as journal:
        rows = journal.rows()
    assert [row["i"] for row in rows] == list(range(len(rows)))
    assert rows


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StoreError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_row_that_cannot_be_finished_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "full.jsonl"
    with Journal(path) as journal:
        journal.append({"id": "a"})
        file = journal._file

        class Full:
            def __getattr__(self, name: str) -> object:
                return getattr(file, name)

            def write(self, data: bytes) -> int:
                if path.stat().st_size > 14:
                    raise error
                return file.write(bytes(data[:4]))

        monkeypatch.setattr(journal, "_file", Full())
        with pytest.raises((StoreError, KeyboardInterrupt)):
            journal.append({"id": "b"})
        monkeypatch.undo()
        journal.append({"id": "c"})
    assert read_rows(path) == [{"id": "a"}, {"id": "c"}]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / "file" / "run")
    with pytest.raises(StoreError, match="cannot be written"):
        run.claim({}, {})
    with pytest.raises(StoreError, match="cannot be written"):
        run.response_journal()


def test_folder_of_a_tuned_model_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"recipe": {}}')
    with pytest.raises(StoreError, match="something else"):
        Run(tmp_path).claim({}, {})
    with pytest.raises(StoreError, match="holds no run"):
        find_runs(tmp_path)


def drawn() -> bytes:
    return b"the bytes of a drawing"


def _record(tmp_path: Path) -> Record:
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"the bytes of a photo")
    example = Example(
        id="e/1",
        prompt=(
            Message("system", ("Be kind.",)),
            Message("user", (Image(file), "What is “this”?", Image(make=drawn), "And that?")),
        ),
        answers=("a", "b"),
        expected=Expected.REASON,
        subset="s",
        category="c",
        subcategory="d",
        cluster="k",
        role=Role.FORGET,
        source="vlguard:x#test",
        meta={"scene": "7"},
    )
    response = Response("r1", "e/1", "I can’t.\n", Finish.LENGTH, tokens=3, seconds=0.25, model="m", why="")
    verdicts = (
        Verdict("refusal", "r1", refused=True, labels={"list": "opening"}, score=0.5, why="I can't"),
        Verdict("exact", "r1", why="no answers"),
    )
    return Record(example, response, verdicts)


def _on_disk(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(row))


def test_record_round_trip_is_lossless(tmp_path: Path) -> None:
    record = _record(tmp_path)
    run = Run(tmp_path / "run")
    run.write_asked([Asked(record.example, "r1")])
    example = example_from_json(_on_disk(example_to_json(record.example)), run.images)
    assert replace(example, prompt=record.example.prompt) == record.example
    assert response_from_json(_on_disk(response_to_json(record.response))) == record.response
    for verdict in record.verdicts:
        assert verdict_from_json(_on_disk(verdict_to_json(verdict, record.example.id))) == verdict
    assert [i.sha256 for i in example.images] == [i.sha256 for i in record.example.images]
    assert example.images[0] == record.example.images[0]
    assert example.images[1].read() == drawn()
    plain = example_from_json(example_to_json(Example("t", (Message("user", ("hi",)),), meta={"k": "v"})))
    assert plain == Example("t", (Message("user", ("hi",)),), meta={"k": "v"})


def test_a_turn_that_is_not_learned_stays_one_on_disk() -> None:
    turns = (
        Message("user", ("hi",)),
        Message("assistant", ("no",), supervised=False),
        Message("assistant", ("yes",)),
        Message("user", ("so?",)),
    )
    row = _on_disk(example_to_json(Example("t", turns)))
    assert example_from_json(row).prompt == turns
    assert [m.get("supervised") for m in row["prompt"]] == [None, False, None, None]


def test_only_drawn_pictures_are_copied(tmp_path: Path) -> None:
    record = _record(tmp_path)
    run = Run(tmp_path / "run")
    run.write_asked([Asked(record.example, "r1")])
    assert [p.stem for p in run.images.iterdir()] == [record.example.images[1].sha256]


def _question(name: str) -> Example:
    return Example(name, (Message("user", (f"question {name}",)),))


def test_records_join_by_id_not_by_position(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_asked([Asked(_question(n), f"r-{n}") for n in "abc"])
    with run.response_journal() as journal:
        for name in "cba":
            journal.append({"id": f"r-{name}", "example_id": name, "text": name, "finish": "stop"})
    with run.verdict_journal() as journal:
        journal.append({"example_id": "b", "response_id": "r-b", "judge": "j", "refused": True})
        journal.append({"example_id": "b", "response_id": "stale", "judge": "j", "refused": False})
        journal.append({"example_id": "a", "response_id": "r-a", "judge": "j", "refused": False})
        journal.append({"example_id": "a", "response_id": "r-a", "judge": "j", "refused": None})
    records = run.records()
    assert [(r.example.id, r.response.text) for r in records] == [("a", "a"), ("b", "b"), ("c", "c")]
    verdicts = [r.verdict("j") for r in records]
    assert [v.refused if v else "none" for v in verdicts] == [None, True, "none"]


def test_example_without_response_stays_as_failed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_asked([Asked(_question("a"), "r")])
    [record] = run.records()
    assert record.response.finish is Finish.FAILED
    assert not record.response.said


def test_two_examples_may_share_a_response(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_asked([Asked(_question("a"), "r"), Asked(_question("b"), "r")])
    with run.response_journal() as journal:
        journal.append({"id": "r", "example_id": "a", "text": "x", "finish": "stop"})
    with run.verdict_journal() as journal:
        journal.append({"example_id": "a", "response_id": "r", "judge": "j", "correct": True})
        journal.append({"example_id": "b", "response_id": "r", "judge": "j", "correct": False})
    assert [(r.response.example_id, r.verdicts[0].correct) for r in run.records()] == [("a", True), ("b", False)]


def test_folder_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.claim({"model": "world", "decoding": {"top_k": 0}}, {"vlmend": "1"})
    run.claim({"model": "world", "decoding": {"top_k": 0}}, {"vlmend": "2"})
    assert run.manifest()["vlmend"] == "2", "the manifest says what the run is now"
    assert run.manifest()["sessions"] == [{"vlmend": "1"}, {"vlmend": "2"}], "and what it was"
    with pytest.raises(StoreError, match=r"decoding is .*top_k.*0.* there"):
        run.claim({"model": "world", "decoding": {"top_k": 5}}, {})
    with pytest.raises(StoreError, match=r"attack.*no answers yet, so remove it, or choose another"):
        run.claim({"model": "world", "decoding": {"top_k": 0}, "attack": "x"}, {})


def test_a_setting_that_only_the_folder_has_is_another_run(tmp_path: Path) -> None:
    """A run that was attacked, and one of an older version whose setting is gone, are not gone on with."""
    run = Run(tmp_path)
    run.claim({"model": "world", "attack": ["one_word:what"]}, {})
    with pytest.raises(StoreError, match=r"attack is .*one_word:what.* there, .* asked for"):
        run.claim({"model": "world"}, {})
    assert run.settings() == {"model": "world", "attack": ["one_word:what"]}


def test_row_that_is_no_response_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "responses.jsonl").write_text('{"id": "a", "example_id": "e", "text": "", "finish": "vanished"}\n')
    with pytest.raises(StoreError, match="line 1"):
        Run(tmp_path).responses()


def test_find_runs(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        find_runs(tmp_path)
    with pytest.raises(StoreError, match="not a folder"):
        find_runs(tmp_path / "absent")
    Run(tmp_path / "b").claim({}, {})
    Run(tmp_path / "a").claim({}, {})
    assert [r.folder.name for r in find_runs(tmp_path)] == ["a", "b"]
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        Run.open(tmp_path)


def test_a_full_disk_is_named() -> None:
    full = full_disk(Path("/nowhere/yet/file"), OSError(errno.ENOSPC, "No space left on device"))
    assert full.startswith("the disk at / is full (")
    assert full_disk(Path("/nowhere/yet/file"), OSError(errno.EACCES, "Permission denied")) == ""


# What is on disk is what was written, or it is said what is not.


def _stored(folder: Path, n: int = 4) -> Run:
    """A run of `n` answered and judged questions."""
    run = Run(folder)
    run.claim({"model": "m"}, {"limit": None})
    run.write_asked([Asked(_question(f"e{i}"), f"r{i}") for i in range(n)])
    with run.response_journal() as responses, run.verdict_journal() as verdicts:
        for record in run.records():
            response = replace(record.response, text="So it is.", finish=Finish.STOP, why="")
            verdict = Verdict("j", response.id, refused=False)
            responses.append(response_to_json(response))
            verdicts.append(verdict_to_json(verdict, record.example.id, judged_key(record.example, response)))
    run.seal("responses.jsonl", "verdicts.jsonl")
    run.write_metrics({"metrics": {}})
    return run


@pytest.mark.parametrize("name", ["examples.jsonl", "responses.jsonl", "verdicts.jsonl"])
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_record_file_that_was_cut_is_refused_with_its_counts(tmp_path: Path, name: str, kept: int) -> None:
    run = _stored(tmp_path)
    path = tmp_path / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    with pytest.raises(
        StoreError, match=rf"{name} holds {kept} rows? of 4 that were written: {4 - kept} (is|are) lost"
    ):
        run.records()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("examples.jsonl", '"expected":"answer"', '"expected":"refuse"'),
        ("verdicts.jsonl", '"refused":false', '"refused":true'),
    ],
)
def test_a_row_that_was_edited_is_refused(tmp_path: Path, name: str, old: str, new: str) -> None:
    run = _stored(tmp_path)
    path = tmp_path / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(StoreError, match=f"{name} was changed since its 4 rows were written"):
        run.records()


def test_rates_that_were_edited_are_refused(tmp_path: Path) -> None:
    run = _stored(tmp_path)
    (tmp_path / "metrics.json").write_text('{"metrics": {"asr": 0}}\n')
    with pytest.raises(StoreError, match=r"metrics\.json was changed.*vlmend score"):
        run.metrics()


def test_rows_behind_the_seal_are_of_a_session_that_was_killed(tmp_path: Path) -> None:
    run = _stored(tmp_path)
    with run.response_journal() as journal:
        journal.append(response_to_json(Response("r9", "e9", "late", Finish.STOP)))
    assert len(run.responses()) == 5
    assert [r.verdicts[0].refused for r in run.records()] == [False] * 4


def test_an_edited_answer_has_no_verdict(tmp_path: Path) -> None:
    """The verdict was on another text; so was one on a question of which something else is known now."""
    run = _stored(tmp_path)
    path = tmp_path / "responses.jsonl"
    path.write_text(path.read_text().replace("So it is.", "So be it.", 1))
    first, *others = run.records()
    assert (first.verdicts[0].refused, others[0].verdicts[0].refused) == (None, False)
    assert "not what was judged" in first.verdicts[0].why
    known = [replace(_question(f"e{i}"), answers=("Another reference.",) if i else ()) for i in range(4)]
    run.write_asked([Asked(example, f"r{i}") for i, example in enumerate(known)])
    assert [r.verdicts[0].refused for r in run.records()] == [None] * 4


WRONG: dict[str, list[tuple[str, object, str]]] = {
    "verdicts.jsonl": [
        ("refused", "yes", "true, false or null"), ("harmful", 1, "true, false or null"), ("correct", [], "true"),
        ("labels", {"a": 1}, "an object of texts"), ("labels", "x", "an object of texts"), ("score", "0.5", "a number"),
        ("score", True, "a number"), ("judge", None, "a text"), ("why", 3, "a text"), ("response_id", 7, "a text"),
        ("example_id", None, "a text"), ("scores", {"a": "b"}, "an object of numbers"), ("judged", 1, "a text"),
    ],
    "responses.jsonl": [
        ("text", None, "a text"), ("finish", "vanished", "one of stop, length"), ("tokens", "12", "a whole number"),
        ("tokens", 1.5, "a whole number"), ("seconds", "1", "a number"), ("id", 3, "a text"),
        ("sample", True, "a whole number"), ("reasoning", None, "a text"),
    ],
    "examples.jsonl": [
        ("example.expected", "maybe", "one of answer"), ("example.answers", "yes", "a list of texts"),
        ("example.answers", [1], "a list of texts"), ("example.meta", {"a": 1}, "an object of texts"),
        ("example.role", "king", "one of safety"), ("example.prompt", [], "a list of turns"),
        ("example.prompt", ["hi"], "a list of turns"), ("example.prompt", [{"role": "me", "parts": []}], "turns"),
        ("example.prompt", [{"role": "user", "parts": [7]}], "a text or a picture"),
        ("example.prompt", [{"role": "user", "parts": [{"path": 1, "sha256": None}]}], "texts or null"),
        ("sample", "0", "a whole number"), ("response_id", None, "a text"), ("example", 3, "'example'"),
        ("content", 4, "a text"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value", "said"), [(n, *row) for n, rows in WRONG.items() for row in rows])
def test_a_field_of_another_type_names_file_and_line(
    tmp_path: Path, name: str, field: str, value: object, said: str
) -> None:
    run = _stored(tmp_path)
    path = tmp_path / name
    lines = path.read_text().splitlines()
    row: Any = json.loads(lines[2])
    *outer, last = field.split(".")
    inner = row[outer[0]] if outer else row
    inner[last] = value
    path.write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]) + "\n")
    with pytest.raises(StoreError) as caught:
        run.records()
    assert str(caught.value).startswith(f"{path} is damaged in line 3: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_of_a_noun_on_disk_has_a_type_that_is_checked() -> None:
    declared = {str(f.type) for noun in (Example, Response, Verdict) for f in fields(noun)}
    assert declared <= set(FITS)


def test_a_picture_with_other_bytes_is_not_the_one_that_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Pillow.new("RGB", (4, 4), (9, 9, 9)).save(path)
    example = Example("a", (Message("user", (Image(path), "What is it?")),))
    run = Run(tmp_path / "run")
    run.write_asked([Asked(example, "r")])
    [was] = [image for item in run.asked() for image in item.example.images]
    assert was.read() == path.read_bytes()
    Pillow.new("RGB", (4, 4), (200, 0, 0)).save(path)
    [now] = [image for item in run.asked() for image in item.example.images]
    for look in (now.read, now.open, lambda: now.size, lambda: now.sha256):
        with pytest.raises(DataError, match="not the picture that was shown"):
            look()


def test_a_drawn_picture_is_kept_by_its_content(tmp_path: Path) -> None:
    example = Example("a", (Message("user", (Image(make=lambda: b"drawn"), "What is it?")),))
    run = Run(tmp_path)
    run.write_asked([Asked(example, "r")])
    [file] = run.images.iterdir()
    file.write_bytes(b"painted over")
    [image] = run.examples()[0].images
    with pytest.raises(DataError, match="not the picture that was shown"):
        image.read()
