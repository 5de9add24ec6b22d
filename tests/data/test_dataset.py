from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.data.files import REAL, png, records, write_jsonl, write_vlguard
from vlmend.data import load, read
from vlmend.data.placeholder import draw
from vlmend.data.slices import parse_split
from vlmend.errors import DataError, UsageError
from vlmend.types import Example


def ids(examples: Sequence[Example]) -> list[str]:
    return [example.id for example in examples]


@pytest.mark.parametrize("cut", [1, 20, 50, 80, 99])
def test_two_slices_partition_the_set(tmp_path: Path, cut: int) -> None:
    folder = write_vlguard(tmp_path, records(300), pictures=False)
    left, right = (read(f"vlguard:{folder}#train[{s}]") for s in (f":{cut}%", f"{cut}%:"))
    assert sorted(ids(left) + ids(right)) == sorted(ids(read(f"vlguard:{folder}#train")))
    assert not {e.cluster for e in left} & {e.cluster for e in right}


def test_a_percentage_is_kept_roughly_and_stably(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path, records(1000), pictures=False)
    left = read(f"vlguard:{folder}#train[:80%]")
    assert len(left) == pytest.approx(1200, rel=0.05)
    shorter = write_vlguard(tmp_path / "less", records(1000)[:500], pictures=False)
    assert set(ids(read(f"vlguard:{shorter}#train[:80%]"))) <= set(ids(left))


def test_a_count_is_a_prefix(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    everything = ids(read(f"vlguard:{folder}#train"))
    assert ids(read(f"vlguard:{folder}#train[:7]")) == everything[:7]
    assert ids(read(f"vlguard:{folder}#train[7:]")) == everything[7:]
    assert ids(read(f"vlguard:{folder}#train[7:9]?turns=single")) == everything[7:9]


def test_a_source_without_splits_can_be_sliced(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"q{i}", "answer": "a"} for i in range(9)])
    assert len(read(f"jsonl:{file}#[:4]")) == 4


@pytest.mark.parametrize("text", ["train[80]", "train[:]", "train[:80%", "train[80%:10]", "train[9:3]", "train[:101%]"])
def test_a_slice_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="slice"):
        parse_split(text)


def test_missing_pictures_are_counted_in_one_line(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    for i in (0, 2):
        (folder / "train" / "HOD" / f"img_{i}.png").unlink()
    with pytest.raises(DataError) as caught:
        load(f"vlguard:{folder}#train")
    line = str(caught.value)
    assert line.startswith("62 examples need 40 pictures; 2 are missing, first ")
    assert "img_0.png" in line
    assert f"put them in {folder / 'train' / 'HOD'}, or have stand-ins drawn: missing_images=placeholder" in line
    assert "\n" not in line


@pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")
def test_missing_pictures_of_the_published_set_are_counted() -> None:
    with pytest.raises(DataError, match=r"2,977 examples need 1,999 pictures; 1,999 are missing"):
        load(f"vlguard:{REAL}#train")
    data = load(f"vlguard:{REAL}#train", missing_images="placeholder")
    assert data.placeholders == 1999
    assert "1,999" in data.warning


@pytest.mark.parametrize(("content", "says"), [(b"this is text", "is not a readable picture"), (b"", "is empty")])
@pytest.mark.parametrize("mode", ["error", "placeholder"])
def test_a_broken_picture_is_named_whatever_the_mode(tmp_path: Path, content: bytes, says: str, mode: str) -> None:
    folder = write_vlguard(tmp_path)
    (folder / "train" / "HOD" / "img_4.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"img_4\.png {says}"):
        load(f"vlguard:{folder}#train", missing_images="error" if mode == "error" else "placeholder")


def test_placeholders_differ_by_picture_and_never_by_slice(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path, pictures=False)
    data = load(f"vlguard:{folder}#train", missing_images="placeholder")
    assert data.placeholders == 40
    hashes = {e.id: e.images[0].sha256 for e in data.examples}
    assert len(set(hashes.values())) == 40
    assert hashes["vlguard/train/r1/0"] == hashes["vlguard/train/r1/1"]
    for cut in ("[:30%]", "[30%:]", "[:3]"):
        part = load(f"vlguard:{folder}#train{cut}", missing_images="placeholder").examples
        assert all(e.images[0].sha256 == hashes[e.id] for e in part)
    elsewhere = write_vlguard(tmp_path / "another" / "place", pictures=False)
    moved = load(f"vlguard:{elsewhere}#train", missing_images="placeholder").examples
    assert {e.id: e.images[0].sha256 for e in moved} == hashes


def test_absolute_and_relative_folders_side_by_side_have_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(tmp_path / "far" / "0.png"), "near/0.png", "near/1.png"]
    write_jsonl(Path("rows.jsonl"), [{"prompt": f"q{i}", "answer": "a", "image": n} for i, n in enumerate(names)])
    data = load("jsonl:rows.jsonl", missing_images="placeholder")
    assert data.placeholders == 3
    assert len({e.images[0].sha256 for e in data.examples}) == 3
    with pytest.raises(DataError, match="3 examples need 3 pictures; 3 are missing"):
        load("jsonl:rows.jsonl")


def test_a_slice_needs_its_own_pictures_only(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path, pictures=False)
    part = load(f"vlguard:{folder}#train[:3]", missing_images="placeholder")
    assert part.placeholders == len({e.id.rpartition("/")[0] for e in part.examples}) < 40
    with pytest.raises(DataError, match=f"3 examples need {part.placeholders} pictures"):
        load(f"vlguard:{folder}#train[:3]")


def test_the_limit_of_pixels_reaches_every_picture(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    assert {i.max_pixels for e in load(f"vlguard:{folder}#train", max_pixels=10**8).examples for i in e.images} == {
        10**8
    }
    with pytest.raises(DataError, match="more than max_pixels 3"):
        load(f"vlguard:{folder}#train", max_pixels=3)


def test_only_missing_pictures_are_replaced(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    (folder / "train" / "HOD" / "img_0.png").unlink()
    data = load(f"vlguard:{folder}#train", missing_images="placeholder")
    assert data.placeholders == 1
    assert sum(e.images[0].path is None for e in data.examples) == 1


def test_a_placeholder_is_a_picture() -> None:
    assert draw("a") == draw("a") != draw("b")
    assert len({draw(str(i)) for i in range(3000)}) == 3000


def test_the_fingerprint_moves_with_text_labels_and_pictures(tmp_path: Path) -> None:
    rows = records()
    before = load(f"vlguard:{write_vlguard(tmp_path / 'a', rows)}#train").fingerprint
    assert load(f"vlguard:{write_vlguard(tmp_path / 'b', rows)}#train").fingerprint == before
    (tmp_path / "b" / "train" / "HOD" / "img_0.png").write_bytes(png() + b"more")
    assert load(f"vlguard:{tmp_path / 'b'}#train").fingerprint != before
    rows[0] = {**rows[0], "harmful_subcategory": "other"}
    assert load(f"vlguard:{write_vlguard(tmp_path / 'c', rows)}#train").fingerprint != before


def test_an_empty_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no examples"):
        read(f"vlguard:{write_vlguard(tmp_path)}#train[900:]")
