from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import png, write_jsonl
from vlmend.data import hub, load, read
from vlmend.data.sources.pope import SPLITS, Pope
from vlmend.errors import DataError, UsageError
from vlmend.types import Expected, Role

COMMIT = "0" * 40
ROW: dict[str, Any] = {"question_id": 3, "image": "COCO_1.jpg", "text": "Is there a cup?", "label": "yes"}
HUB = {
    **{"id": "0", "question_id": "3", "question": "Is there a cup?", "answer": "yes", "image_source": "COCO_1"},
    **{"image": {"bytes": png(), "path": "x.jpg"}, "category": "random"},
}


def folder(place: Path, rows: list[Any], split: str = "random") -> Path:
    write_jsonl(place / f"coco_pope_{split}.json", rows)
    return place


@pytest.mark.parametrize("split", SPLITS)
def test_the_sample_is_balanced_and_has_its_pictures(tmp_path: Path, split: str) -> None:
    Pope.sample(tmp_path)
    examples = load(f"pope:{tmp_path}#{split}").examples
    assert [e.id for e in examples] == [f"pope/{split}/coco/{i}" for i in range(12)]
    assert Counter(e.answers for e in examples) == {("yes",): 6, ("no",): 6}
    assert {(e.subset, e.expected, e.role, e.source) for e in examples} == {
        (split, Expected.ANSWER, Role.UTILITY, "pope")
    }


def test_questions_about_a_picture_share_a_cluster_in_every_split(tmp_path: Path) -> None:
    other = {**ROW, "question_id": 4, "image_id": 1, "label": "no"}
    folder(tmp_path, [ROW, other, {**ROW, "question_id": 5, "image": "COCO_2.jpg"}])
    folder(tmp_path, [ROW], "popular")
    first, second, third = read(f"pope:{tmp_path}#random")
    assert first.cluster == second.cluster != third.cluster
    assert first.cluster == read(f"pope:{tmp_path}#popular")[0].cluster
    assert first.images[0].path == tmp_path / "val2014" / "COCO_1.jpg"


@pytest.mark.parametrize("place", [".", "coco", "output/coco"])
def test_files_and_pictures_are_found_in_the_usual_places(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    folder(tmp_path / place, [ROW])
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_1.jpg").write_bytes(png())
    assert load(f"pope:{tmp_path}#random").placeholders == 0
    (elsewhere,) = read(f"pope:{tmp_path}#random?images={tmp_path / 'coco2014'}")
    assert elsewhere.images[0].path == tmp_path / "coco2014" / "COCO_1.jpg"


def test_questions_about_other_pictures_have_ids_of_their_own(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "mine_pope_random.json", [ROW])
    assert read(f"pope:{tmp_path}#random?dataset=mine")[0].id == "pope/random/mine/3"


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 are missing, first .*val2014/COCO_1\.jpg"):
        load(f"pope:{folder(tmp_path, [ROW])}#random")


BROKEN = [
    ({k: v for k, v in ROW.items() if k != "label"}, "line 2: 'label' is required"),
    ({**ROW, "lable": "yes"}, "line 2: unknown key 'lable'. Did you mean 'label'?"),
    ({**ROW, "label": "maybe"}, "line 2: 'label': input should be 'yes' or 'no'"),
    ({**ROW, "image": 5}, "line 2: 'image': input should be a valid string"),
    ({**ROW, "text": ""}, "line 2: 'text': string should have at least 1 character"),
    (5, "line 2: should be an object, is a number"),
]


@pytest.mark.parametrize(("row", "says"), BROKEN)
def test_a_broken_line_is_named(tmp_path: Path, row: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"pope:{folder(tmp_path, [ROW, row])}#random")
    assert f"{tmp_path / 'coco_pope_random.json'} {says}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is empty"),
        (b'{"text": "\xff"}', "line 1: is not UTF-8"),
        (b"{", "line 1: is not valid JSON"),
        (json.dumps([ROW]).encode(), "line 1: should be an object, is a list"),
        ((json.dumps(ROW) + "\n").encode() * 2, "uses 1 id more than once"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "coco_pope_random.json").write_bytes(text)
    with pytest.raises(DataError, match=says):
        read(f"pope:{tmp_path}#random")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    folder(tmp_path, [ROW])
    with pytest.raises(DataError, match=r"has no coco_pope_rnadom\.json\. Did you mean 'coco_pope_random'\?"):
        read(f"pope:{tmp_path}#rnadom")
    with pytest.raises(DataError, match=r"no coco_pope_popular\.json.*Files there: coco_pope_random"):
        read(f"pope:{tmp_path}#popular")
    with pytest.raises(DataError, match="there is no POPE folder"):
        read(f"pope:{tmp_path / 'nowhere'}#random")


def test_the_hub_reads_as_the_files_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[hub.Repository, str]] = []

    def rows(repository: hub.Repository, split: str, _revision: str) -> Iterator[dict[str, Any]]:
        asked.append((repository, split))
        yield HUB

    monkeypatch.setattr(hub, "_rows", rows)
    (ours,) = load(f"pope:hub#random?revision={COMMIT}").examples
    (theirs,) = read(f"pope:{folder(tmp_path, [ROW])}#random")
    assert asked == [(hub.Repository("lmms-lab/POPE", "Full"), "random")]
    assert (ours.id, ours.question, ours.answers, ours.cluster) == (
        *(theirs.id, theirs.question, theirs.answers, theirs.cluster),
    )
    assert ours.images[0].open()
    with pytest.raises(UsageError, match="fixed commit"):
        read("pope:hub#random")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({k: v for k, v in HUB.items() if k != "answer"}, "row 0: 'answer' is required"),
        ({**HUB, "note": ""}, "row 0: unknown key 'note'"),
        ({**HUB, "image": None}, "row 0 holds no picture"),
    ],
)
def test_a_broken_row_on_the_hub_is_named(monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], says: str) -> None:
    monkeypatch.setattr(hub, "_rows", lambda *_: iter([row]))
    with pytest.raises(DataError, match=rf"lmms-lab/POPE.* random {says}"):
        read(f"pope:hub#random?revision={COMMIT}")
