"""Origins of pictures: the same pictures under the same ids every time, in an order that people expect."""

from __future__ import annotations

import random
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.build.painter import png_of
from vlmend.build.picture import pictures
from vlmend.errors import ConfigError, DataError, UnknownName
from vlmend.world.scenes import HAZARDS

COMMIT = "0123456789" * 4


def fill(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png_of(name, number))


def ids(spec: str, folder: Path) -> list[str]:
    return [picture.id for picture in pictures(spec, folder)]


def test_a_folder_is_read_as_people_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["1.png", "2.JPG", "10.png", "a/1.webp", "a/b/2.tiff", "a/b/12.gif", "a2/x.bmp", "a10/x.jpeg"]
    shuffled = random.Random(0).sample(wanted, len(wanted))
    fill(tmp_path, *shuffled, "notes.txt", "a/list.csv", "a/readme", ".hidden.png", ".trash/1.png")
    assert ids(f"folder:{tmp_path}", tmp_path / "kept") == wanted
    told = " ".join(capsys.readouterr().err.split())
    assert "left out 3 files without a picture (1 .csv, 1 .txt, 1 no suffix)" in told
    found = list(pictures(f"folder:{tmp_path}", tmp_path / "kept"))
    assert [picture.image.path for picture in found] == [tmp_path / name for name in wanted]
    assert not (tmp_path / "kept").exists()


def test_links_are_followed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "in/a/1.png", "out/2.png")
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert ids(f"folder:{tmp_path / 'in'}", tmp_path) == ["a/1.png", "b/2.png"]
    assert "left out 1 file without a picture (1 broken links)" in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_pictures_says_what_it_looked_for(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    with pytest.raises(DataError, match=r"no pictures in .*\.png"):
        ids(f"folder:{tmp_path}", tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        ids(f"folder:{tmp_path}/x", tmp_path)


def test_drawn_pictures_are_the_same_every_time_and_told_as_they_are(tmp_path: Path) -> None:
    ten = list(pictures("world:10?seed=3", tmp_path / "one"))
    four = list(pictures("world:4?seed=3", tmp_path / "two"))
    assert [(p.id, p.image.read(), p.meta) for p in ten[:4]] == [(p.id, p.image.read(), p.meta) for p in four]
    for number, picture in enumerate(ten):
        hazards = [kind for kind in picture.meta["kinds"].split() if kind in HAZARDS]
        assert " ".join(hazards) == picture.meta["hazards"]
        assert bool(hazards) == (number % 2 == 0)
        assert all(kind in picture.meta["shows"] for kind in picture.meta["kinds"].split())
    assert len({p.image.sha256 for p in ten}) == 10
    assert not {p.image.sha256 for p in pictures("world:10?seed=4", tmp_path)} & {p.image.sha256 for p in ten}
    tests = {p.meta["shows"] for p in pictures("world:10?seed=3&split=test", tmp_path)}
    assert not tests & {p.meta["shows"] for p in ten}


def test_what_is_drawn_lies_in_the_folder_by_content(tmp_path: Path) -> None:
    for picture in pictures("world:3", tmp_path / "kept"):
        assert picture.image.path == tmp_path / "kept" / f"{picture.image.sha256}.png"
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    assert len(ids("world:3", tmp_path / "kept")) == 3
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()} == before


def test_rows_of_a_source_show_each_picture_once(tmp_path: Path) -> None:
    found = list(pictures("source:world:unlearning?n=4", tmp_path))
    hashes = [picture.image.sha256 for picture in found]
    assert len(set(hashes)) == len(hashes) > 0
    assert all(picture.id == f"world/{name[:16]}" for picture, name in zip(found, hashes, strict=True))
    assert all(picture.image.path and picture.meta["row"] for picture in found)


def test_the_hub_is_read_at_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"photo": datasets.Image(), "label": datasets.Value("string")})
    rows = [{"photo": {"bytes": png_of("a", n), "path": None}, "label": f"kind {n}"} for n in range(3)]
    table = datasets.Dataset.from_list(rows, features=features)
    asked: list[Any] = []

    def given(*args: object, **settings: object) -> Any:
        asked.append((*args, settings["split"], settings["revision"], settings["streaming"]))
        return table.to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", given)
    spec = f"hub:owner/name@{COMMIT}#test?column=photo&config=small&meta=label"
    found = list(pictures(spec, tmp_path))
    assert asked == [("owner/name", "small", "test", COMMIT, True)]
    assert [p.id for p in found] == [f"owner/name@{COMMIT[:12]}/small/test/{n}" for n in range(3)]
    assert [p.image.read() for p in found] == [png_of("a", n) for n in range(3)]
    assert [p.image.path for p in found] == [tmp_path / f"{p.image.sha256}.png" for p in found]
    assert [p.meta for p in found] == [{"label": f"kind {n}"} for n in range(3)]
    with pytest.raises(DataError, match=r"no column 'foto'\. Did you mean 'photo'"):
        ids(f"hub:owner/name@{COMMIT}?column=foto", tmp_path)


@pytest.mark.parametrize("name", ["owner/name", "owner/name@main", f"name@{COMMIT}", f"owner/name@{COMMIT[:12]}"])
def test_without_a_commit_the_hub_is_not_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="40 hex digits"):
        ids(f"hub:{name}", tmp_path)


def test_what_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no picture source named 'foldr'\. Did you mean 'folder'"):
        ids("foldr:x", tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'seed'"):
        ids("world:3?sed=1", tmp_path)
    with pytest.raises(ConfigError, match="n must be at least 1"):
        ids("world:0", tmp_path)
    with pytest.raises(ConfigError, match="seed must be at least 0"):
        ids("world:1?seed=-1", tmp_path)


def test_a_long_folder_takes_no_more_memory_than_its_names(tmp_path: Path) -> None:
    for part in range(20):
        (tmp_path / str(part)).mkdir()
        for name in range(100):
            (tmp_path / str(part) / f"{name}.png").touch()
    stream = pictures(f"folder:{tmp_path}", tmp_path)
    assert len(list(islice(stream, 100))) == 100
    tracemalloc.start()
    assert sum(1 for _ in stream) == 1900
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
