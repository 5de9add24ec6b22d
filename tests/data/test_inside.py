"""Rows name pictures in the folder of the data, or in one that the user names, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.data.files import png, write_jsonl, write_vlguard
from vlmend.data import load, read
from vlmend.data.inside import lies_in
from vlmend.errors import DataError, UsageError


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder `data` for rows, with a picture and links in it, and pictures around it."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    for file in (data / "a.png", data / "sub" / "b.png", tmp_path / "else" / "c.png", tmp_path / "database.png"):
        file.write_bytes(png())
    (data / "link.png").symlink_to(tmp_path / "else" / "c.png")
    (data / "folder").symlink_to(tmp_path / "else")
    (data / "inner.png").symlink_to("sub/b.png")
    return data


def spec(rows: Path, picture: str, options: str = "") -> str:
    return f"jsonl:{write_jsonl(rows / 'rows.jsonl', [{'prompt': 'q', 'answer': 'a', 'image': picture}])}{options}"


@pytest.mark.parametrize("picture", ["a.png", "sub/b.png", "sub/../a.png", "inner.png", "ABSOLUTE/a.png", "gone.png"])
def test_pictures_of_the_folder_are_shown(rows: Path, picture: str) -> None:
    assert len(read(spec(rows, picture.replace("ABSOLUTE", str(rows))))[0].images) == 1


@pytest.mark.parametrize(
    "picture",
    [
        *("../else/c.png", "../database.png", "sub/../../else/c.png", "link.png", "folder/c.png", "/etc/hostname"),
        *("file:///etc/hostname", "../gone.png", "TOP/else/c.png", "folder/../database.png"),
    ],
)
def test_others_are_not_unless_that_is_said(rows: Path, picture: str) -> None:
    named = picture.replace("TOP", str(rows.parent))
    with pytest.raises(DataError, match=r"outside of .*data; if that is meant.*\?allow_outside=true") as caught:
        read(spec(rows, named))
    assert "\n" not in str(caught.value)
    assert "rows/0" in str(caught.value)
    assert len(read(spec(rows, named, "?allow_outside=true"))[0].images) == 1
    with pytest.raises(DataError, match=r"\?ids=row&allow_outside=true"):
        read(spec(rows, named, "?ids=row"))


def test_a_folder_that_is_named_is_open_as_well(rows: Path) -> None:
    elsewhere = f"?images={rows.parent / 'else'}"
    assert load(spec(rows, "c.png", elsewhere)).examples[0].images[0].read() == png()
    assert read(spec(rows, str(rows / "a.png"), elsewhere))
    with pytest.raises(DataError, match="outside of"):
        read(spec(rows, "../database.png", elsewhere))
    with pytest.raises(UsageError, match="allow_outside should be true or false, is 'yes'"):
        read(spec(rows, "a.png", "?allow_outside=yes"))


def test_the_other_side_of_a_pair_is_looked_at_too(rows: Path) -> None:
    from vlmend.data.dataset import read_pairs

    row = {"prompt": "q", "chosen": "a", "rejected": "b", "image": "a.png", "rejected_images": ["link.png"]}
    with pytest.raises(DataError, match="outside of"):
        read_pairs(f"jsonl:{write_jsonl(rows / 'rows.jsonl', [row])}")


def test_a_published_layout_is_no_exception(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "in")
    (tmp_path / "train").symlink_to(folder / "train")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert len(read(f"vlguard:{linked}#train")) == 62  # the folder itself may be a link: the user named it
    (folder / "train").rename(tmp_path / "away")
    (folder / "train").symlink_to(tmp_path / "away")
    with pytest.raises(DataError, match=r"vlguard:.*#train\?allow_outside=true"):
        read(f"vlguard:{folder}#train")
    assert len(read(f"vlguard:{folder}#train[:5]?allow_outside=true")) == 5


def test_a_download_in_the_hubs_cache_is_links_to_files_beside_it(tmp_path: Path) -> None:
    top = tmp_path / "datasets--a--b"
    (top / "blobs").mkdir(parents=True)
    (top / "blobs" / "f00").write_bytes(png())
    snapshot = top / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    os.symlink("../../blobs/f00", snapshot / "a.png")
    assert load(spec(snapshot, "a.png")).examples[0].images[0].read() == png()


def test_what_is_remembered_of_a_folder_holds_for_that_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "data" / "pics").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)  # relative names mean something else now
        assert lies_in(Path("data/pics/1.png"), Path("data"))
        assert not lies_in(Path("data/pics/1.png"), tmp_path / ("two" if name == "one" else "one") / "data")
