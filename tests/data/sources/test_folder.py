"""The source `folder`: labels from folders, tables and rows; every label is meant, or refused."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path

import pytest

from tests.data.files import png
from vlmend.data import hub, load, phrasings, read
from vlmend.data.dataset import load_pairs
from vlmend.data.sources.folder import Folder
from vlmend.errors import DataError, UsageError

QUESTIONS = dict(phrasings.load("apart").numbered("test"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Folder.sample(tmp_path / "data")
    return tmp_path / "data"


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())
    return folder


def rows(folder: Path, *labels: object, suffix: str = "tsv") -> Path:
    """SMID's layout: index, picture as base64, label."""
    folder.mkdir(exist_ok=True)
    mark = "\t" if suffix == "tsv" else ","
    inside = base64.b64encode(png()).decode()
    lines = [mark.join(("index", "image", "label"))]
    lines += [mark.join((str(i), inside, str(label))) for i, label in enumerate(labels)]
    (folder / f"rows.{suffix}").write_text("\n".join(lines) + "\n")
    return folder / f"rows.{suffix}"


def test_table_and_folders_say_the_same(folder: Path) -> None:
    by_table = load(f"folder:{folder}").examples
    (folder / "labels.csv").unlink()
    by_folder = load(f"folder:{folder}").examples
    assert Counter(e.subset for e in by_folder) == Counter(e.subset for e in by_table)
    assert Counter(e.subset for e in by_table) == {f"image_{side}": 6 * len(QUESTIONS) for side in ("safe", "unsafe")}
    said = [{(e.images[0].path, e.question, e.subset, e.category, e.answers[1]) for e in side}
            for side in (by_table, by_folder)]  # fmt: skip
    assert said[0] == said[1]
    assert {e.answers[1] for e in by_table if e.subset == "image_unsafe"} == {"No"}
    assert {e.question for e in by_table} == {q.format(it="this picture") for q in QUESTIONS.values()}


def test_rows_that_hold_their_pictures(tmp_path: Path) -> None:
    for suffix in ("tsv", "csv"):
        spec = f"folder:{rows(tmp_path / suffix, 1, 0, 1, suffix=suffix)}?unsafe=1&safe=0&phrasings=one"
        examples = load(spec).examples
        assert [e.subset for e in examples] == ["image_unsafe", "image_safe", "image_unsafe"]
        assert {e.images[0].size for e in examples} == {load(spec).examples[0].images[0].size}
        assert [e.id.rsplit("/", 1)[0] for e in examples] == [f"folder/rows/{i}" for i in range(3)]


def test_swapping_the_meanings_swaps_the_answers(tmp_path: Path) -> None:
    table = rows(tmp_path / "d", 1, 0, 0)
    one, other = (read(f"folder:{table}?unsafe={u}&safe={s}") for u, s in ((1, 0), (0, 1)))
    assert [(e.id, e.question) for e in one] == [(e.id, e.question) for e in other]
    assert all({a.answers[1], b.answers[1]} == {"Yes", "No"} for a, b in zip(one, other, strict=True))


def test_deeper_folders_say_what_is_shown(tmp_path: Path) -> None:
    lay(tmp_path, "nsfw/gun_fight/1.png", "sfw/n01440764/2.png", "sfw/3.png", "drawings/4.png", "sfw/10.png")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\n")
    found = read(f"folder:{tmp_path}?unsafe=nsfw&safe=sfw&ignore=drawings&phrasings=one")
    assert [(e.category, e.subcategory) for e in found] == [
        ("nsfw", "gun fight"), ("sfw", ""), ("sfw", ""), ("sfw", "tench"),
    ]  # fmt: skip
    rest = read(f"folder:{tmp_path}?unsafe=nsfw&safe=*&phrasings=one")
    assert Counter(e.subset for e in rest) == {"image_unsafe": 1, "image_safe": 4}


def test_training_wordings_and_pairs_by_options(folder: Path) -> None:
    pairs = load_pairs(f"folder:{folder}?half=train&form=pairs").pairs
    assert len(pairs) == 12 * len(phrasings.load("apart").numbered("train"))
    assert {(p.subset, p.chosen[:2]) for p in pairs} == {("image_unsafe", "No"), ("image_safe", "Ye")}
    assert not {p.question for p in pairs} & {e.question for e in read(f"folder:{folder}")}
    assert {e.images[0].path for e in read(f"folder:{folder}#[:50%]")} < {p.images[0].path for p in pairs}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("?unsafe=unsafe&safe=other", "nobody says whether label 'safe' is safe or unsafe"),
        ("?unsafe=unsafe|gore", r"has no label 'gore'\. It has unsafe \(6 pictures\), safe \(6 pictures\)"),
        ("?safe=unsafe", "label 'unsafe' is named twice"),
        ("?label=lable", r"labels.csv .*: no label; looked for lable among image, label, concept"),
        ("?half=rest", "'train' or 'test'"),
    ],
)
def test_what_is_asked_for_and_not_there_is_told(folder: Path, options: str, says: str) -> None:
    with pytest.raises((DataError, UsageError, ValueError), match=says):
        read(f"folder:{folder}{options}")


def test_pictures_without_a_label_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png lies in no sub-folder whose name would be its label"):
        read(f"folder:{lay(tmp_path / 'a', '1.png')}")
    with pytest.raises(DataError, match="there is no folder or file"):
        read(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match="folder:hub:OWNER/NAME"):
        read("folder:hub")


def test_columns_that_change_nothing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path, "1.png")
    (tmp_path / "labels.csv").write_text("path,label,rater\n1.png,safe,me\n")
    assert len(read(f"folder:{tmp_path}?phrasings=one")) == 1
    assert "columns that change nothing: rater" in " ".join(capsys.readouterr().err.split())


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(repository: hub.Repository, split: str, revision: str) -> list[dict[str, object]]:
        assert (repository.id, split, revision) == ("yiting/SMID", "train", "0" * 40)
        return [{"image": {"bytes": png(), "path": None}, "label": label} for label in (0, 1)]

    monkeypatch.setattr(hub, "_rows", published)
    found = read(f"folder:hub:yiting/SMID?unsafe=1&safe=0&phrasings=one&revision={'0' * 40}")
    assert [e.subset for e in found] == ["image_safe", "image_unsafe"]
