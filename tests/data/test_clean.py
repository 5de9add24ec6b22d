"""A cleaned copy reads back as what was kept, and the log names the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import records, write_jsonl, write_vlguard
from tests.data.test_check import declines, refusal, row, scene
from vlmend.data import clean, load, read
from vlmend.data.check import check
from vlmend.data.checks.finding import KINDS
from vlmend.data.dataset import read_pairs
from vlmend.data.rows import tolerant
from vlmend.errors import UsageError
from vlmend.types import Example, Image


def essence(example: Example) -> Example:
    """The example with its pictures as bytes."""

    def bare(part: str | Image) -> str:
        return part.sha256 if isinstance(part, Image) else part

    prompt = tuple(replace(m, parts=tuple(bare(part) for part in m.parts)) for m in example.prompt)
    return replace(example, prompt=prompt)


def cleaned(spec: str, folder: Path, **options: Any) -> clean.Cleaned:
    return clean.write(check(spec, declines), folder / "out" / "clean.jsonl", **options)


def log(made: clean.Cleaned) -> dict[str, list[str]]:
    return {entry["id"]: entry["kinds"] for entry in map(json.loads, made.log.read_text().splitlines())}


def broken(folder: Path) -> str:
    """Rows of every form, four of them with a defect that is dropped and one with a defect that is kept."""
    for number in range(3):
        (folder / f"{number}.png").write_bytes(scene(number))
    block = [{"type": "text", "text": "Before <b>"}, {"type": "image", "image": "1.png"}, {"type": "text", "text": "?"}]
    rows = [
        row(0, image="0.png", category="a", subset="s", note="kept", responses="1", meta={"image": "x"}),
        row(1, prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": block}]),
        row(2, answer=["One answer.", "Another answer."], role="retain", source="else"),
        refusal(3, images=["0.png", "2.png"], cluster="c"),
        row(4, image="none.png"),
        row(5, prompt="N/A"),
        row(6, answer="A <image>."),
        row(7, answer=" "),
        row(8, answer="I cannot say that."),
    ]
    return f"jsonl:{write_jsonl(folder / 'rows.jsonl', rows)}?map=responses:responses"


def test_a_copy_is_what_was_kept(tmp_path: Path) -> None:
    spec = broken(tmp_path)
    made = cleaned(spec, tmp_path)
    kept = {f"r{number}" for number in (0, 1, 2, 3, 8)}
    copy = load(made.spec).examples
    with tolerant():  # the mark in r6 is refused elsewhere
        assert list(map(essence, copy)) == [essence(e) for e in read(spec) if e.id in kept]
    assert (made.kept, made.dropped) == (5, 4)
    assert log(made) == {
        "r4": ["missing_picture"],
        "r5": ["placeholder_question"],
        "r6": ["image_token"],
        "r7": ["empty_answer"],
    }
    assert not list(made.file.parent.glob("*.pictures"))


def test_a_copy_has_nothing_left_to_clean(tmp_path: Path) -> None:
    made = cleaned(broken(tmp_path), tmp_path)
    assert {f.kind for f in check(made.spec, declines).findings} == {"unexpected_refusal"}
    again = clean.write(check(made.spec, declines), tmp_path / "again.jsonl", also=["unexpected_refusal"])
    assert (again.kept, again.dropped) == (4, 1)
    assert check(again.spec, declines).findings == ()


def test_the_log_says_why_in_words(tmp_path: Path) -> None:
    made = cleaned(broken(tmp_path), tmp_path)
    entry = json.loads(made.log.read_text().splitlines()[0])
    assert list(entry) == ["id", "kinds", "why"]
    assert "none.png is not there" in entry["why"][0]


def test_of_what_is_repeated_the_first_stays(tmp_path: Path) -> None:
    spec = f"vlguard:{write_vlguard(tmp_path, records(), pictures=False)}#train"
    made = clean.write(check(spec, declines).without(["missing_picture"]), tmp_path / "clean.jsonl")
    assert log(made).keys() == {"vlguard/train/r39~2/0", "vlguard/train/r39~2/1"}
    copy, before = read(made.spec), [e for e in read(spec) if "~2" not in e.id]
    assert [replace(e, prompt=()) for e in copy] == [replace(e, prompt=()) for e in before]
    named = [e.images[0].path for e in copy]
    assert [p and p.resolve() for p in named] == [e.images[0].path and e.images[0].path.resolve() for e in before]


def test_pictures_without_a_file_get_one(tmp_path: Path) -> None:
    made = cleaned("world:safety?n=12", tmp_path)
    copy = load(made.spec).examples
    assert list(map(essence, copy)) == list(map(essence, read("world:safety?n=12")))
    assert {image.path.suffix for e in copy for image in e.images if image.path} == {".png"}


def test_pairs_are_copied_as_well(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(scene(0))
    pair = {"prompt": "Where is it?", "chosen": "There.", "rejected": "Nowhere.", "image": "0.png"}
    other = {**pair, "prompt": "And now?", "rejected_images": ["0.png"]}
    rows = [{"id": "a", **pair}, {"id": "b", **other}, {"id": "c", **pair, "rejected": "There."}]
    spec = f"jsonl:{write_jsonl(tmp_path / 'rows.jsonl', rows)}"
    made = cleaned(spec, tmp_path)
    copy, before = read_pairs(made.spec), read_pairs(spec)
    assert [p.id for p in copy] == ["a", "b"]
    for one, other_one in zip(copy, before, strict=False):
        assert [i.sha256 for i in one.images] == [i.sha256 for i in other_one.images]
        bare = {"prompt": (), "rejected_images": None}
        assert replace(one, **bare) == replace(other_one, **bare)


def test_nothing_left_is_not_written(tmp_path: Path) -> None:
    spec = f"jsonl:{write_jsonl(tmp_path / 'rows.jsonl', [row(0, image='none.png')])}"
    made = cleaned(spec, tmp_path)
    assert (made.kept, made.dropped, made.file.exists()) == (0, 1, False)
    assert log(made) == {"r0": ["missing_picture"]}


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    spec = broken(tmp_path)
    cleaned(spec, tmp_path)
    with pytest.raises(UsageError, match=r"clean\.jsonl exists"):
        cleaned(spec, tmp_path)
    with pytest.raises(UsageError, match=r"name it .*out\.jsonl"):
        clean.write(check(spec, declines), tmp_path / "out.json")


def test_what_is_only_suspicious_is_not_dropped() -> None:
    suspicious = {"unexpected_refusal", "missing_refusal", "boilerplate_answer", "similar_picture", "leaked_text"}
    assert not [kind for kind in suspicious if KINDS[kind].dropped]
    assert [kind for kind, about in KINDS.items() if about.severity == "error" and not about.dropped] == []
