"""Laws that hold for every source: its sample goes through every command, and whatever is broken is named."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from vlmend.data import check, export, load, rows
from vlmend.data.dataset import load_pairs, read_any
from vlmend.data.sources import llava_instruct, mme
from vlmend.errors import VlmendError
from vlmend.registry import sources
from vlmend.types import Example, Pair, conversation_key

Tree = Any
Edit = Callable[[Tree], object]

# What reads all of a sample, where that is not its folder and every split that the source's field `split` spells out.
SPECS = {
    "beavertails_v": ["#train", "#evaluation"],
    "folder": ["", "/labels.csv"],
    "hf": ["#train", "#test"],
    "jsonl": ["/rows.jsonl"],
    "mis": ["#train", "#easy", "#hard", "#real"],
    "mmbench": ["/MMBench_DEV_EN.tsv", "/MMBench_DEV_EN.tsv?rotations=false"],
    "mm_safetybench": ["#SD_TYPO", "#SD", "#TYPO", "#Text_only", "#SD?tiny=true"],
    "pope": ["#adversarial", "#popular", "#random"],
    "safeeraser": [f"#{split}?roles=forget,retain,decouple,refusal&refusals=published" for split in ("train", "val")],
    "safety_mirage": ["#train?instruct={folder}/instruct/llava_v1_5_mix665k.json"],
    "scienceqa": ["#train", "#val", "#test"],
    "spa_vl": ["#train", "#validation"],
    "unsafe_concepts": ["#all?safe={folder}/safe", "#train?ask=perception", "#test?ask=text", "#test?ask=context"],
    "vlguard": ["#train", "#test"],
}
# Files that a source does without: pictures are found without a list, another split of VLGuard is not read.
UNREAD = {"safety_mirage": {"test.json"}}
SPARE = {"folder": {"labels.csv"}, "unsafe_concepts": {"safe/metadata.json"}, "mme": {"OCR/0001.txt"}}
# Keys that a row may lack, as its source's docstring says or its format allows.
OPTIONAL = {
    "folder": {"concept"},
    "hf": {"id", "expected", "subset"},
    "jsonl": {"id", "answer", "image", "expected", "subset"},
    "llava_instruct": {"image", "model"},
    "mis": {"id", "category", "sub_category"},
    "mm_safetybench": {"Changed Question"},
    "gqa": {"fullAnswer", "isBalanced", "types", "structural", "semantic", "detailed"},
    "mmbench": {"hint", "C", "D", "category", "l2-category", "source", "comment", "split"},
    "mossbench": {"description"},
    "safeeraser": {"category", "keyword", "Prediction", "model_response", "sd_response", "other"},
    "safety_mirage": {"image", "model"},
    "textvqa": {"dataset_type", "dataset_name", "dataset_version"},
    "vizwiz": {"answer_confidence"},
    "vqav2": {"task_type", "data_type", "data_subtype", "answer_confidence"},
    "xstest": {"focus", "note"},
}
FREE = {"harmful.json", "pid_splits.json", "problems.json", "prompt.json"}  # objects with more entries than are read
LENIENT = {"folder", "hf", "jsonl", "llava_bench"}  # sources for rows of any shape keep what they do not know
TEXTS = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt"}
NAMES = [name for name in sources.names() if hasattr(sources.find(name), "sample")]


def specs(name: str, folder: Path) -> list[str]:
    splits = [f"#{split}" for split in get_args(get_type_hints(sources.find(name)).get("split"))]
    return [f"{name}:{folder}{rest.format(folder=folder)}" for rest in SPECS.get(name, splits or [""])]


def layouts(folder: Path, unread: set[str]) -> list[Path]:
    """One file of each layout: numbers in names do not matter, nor does which category's folder it is in."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        place = file.relative_to(folder).as_posix()
        if file.suffix in TEXTS and place not in unread:
            alike = file.suffix if file.suffix == ".txt" else re.sub(r"\d.*|data/[a-z_]+/(?=\w+\.parquet)", "", place)
            found.setdefault(alike, file)
    return list(found.values())


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sample of each source, written once; tests break copies."""
    made: dict[str, Path] = {}
    for name in NAMES:
        made[name] = tmp_path_factory.mktemp(name)
        sources.find(name).sample(made[name])
    return made


@pytest.fixture
def folder(request: pytest.FixtureRequest, samples: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(samples[request.node.callspec.params["name"]], tmp_path / "sample"))


def complaints(name: str, folder: Path) -> list[str]:
    """What is said, a line for each spec that is refused."""
    said: list[str] = []
    for spec in specs(name, folder):
        try:
            for _ in read_any(spec):
                pass
        except VlmendError as error:
            said.append(str(error))
    return said


def clear(said: list[str], *parts: str) -> None:
    assert said
    for line in said:
        assert "\n" not in line
        assert len(line) < 900
        for part in parts:
            assert re.search(part, line), line


def essence(item: Example | Pair) -> list[object]:
    told = [list(item.answers), item.expected] if isinstance(item, Example) else [item.chosen, item.rejected]
    labels = [item.id, item.subset, item.category, item.subcategory, item.cluster, item.role, dict(item.meta)]
    return [*labels, conversation_key(item.prompt), *told]


# What a sample is good for


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_whole_and_comes_back_from_every_export(
    samples: dict[str, Path], name: str, tmp_path: Path
) -> None:
    for number, spec in enumerate(specs(name, samples[name])):
        items = list(read_any(spec))
        (load_pairs if isinstance(items[0], Pair) else load)(spec)
        given = [essence(item) for item in items]
        for form in ("trl", "llava", "sharegpt", "openai", "parquet"):
            written = export.write(iter(items), form, tmp_path / f"{number}-{form}")
            assert [essence(item) for item in read_any(written.spec)] == given


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_has_no_errors_of_its_own(samples: dict[str, Path], name: str) -> None:
    for spec in specs(name, samples[name]):
        assert [
            f.kind for f in check.check(spec, lambda text: "sorry" in text.lower()).findings if f.severity == "error"
        ] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_the_same_again_from_its_seed(samples: dict[str, Path], name: str, tmp_path: Path) -> None:
    sources.find(name).sample(tmp_path)
    files = [
        {f.relative_to(top): f.read_bytes() for f in top.rglob("*") if f.is_file()} for top in (samples[name], tmp_path)
    ]
    assert files[0] == files[1]


# Broken files


def broken_contents(raw: bytes) -> dict[str, bytes]:
    half = len(raw) // 2
    return {
        "empty": b"",
        "wrong encoding": raw[:half] + b"\xe9\xff" + raw[half:],
        "UTF-16": raw.decode("latin-1").encode("utf-16"),
        "cut off": raw[: len(raw) - max(3, len(raw) // 20)],
        "binary": b"\x00\x01PK\x03\x04" * 30,
        "prose": b"hello, these are no data\n",
        "nested too deeply": b"[" * 100_000,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_file_is_named(name: str, folder: Path) -> None:
    for file in layouts(folder, UNREAD.get(name, set())):
        raw = file.read_bytes()
        for what, content in broken_contents(raw).items():
            if what == "cut off" and file.suffix in (".csv", ".tsv", ".txt"):
                continue  # what is left of a table is a table
            file.write_bytes(content)
            clear(complaints(name, folder), re.escape(file.name))
        file.write_bytes(raw)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_or_a_folder_in_its_place_is_told(name: str, folder: Path) -> None:
    for file in layouts(folder, UNREAD.get(name, set()) | SPARE.get(name, set())):
        raw = file.read_bytes()
        file.unlink()
        clear(complaints(name, folder), re.escape(str(folder)))
        file.mkdir()
        clear(complaints(name, folder), re.escape(str(folder)))
        file.rmdir()
        file.write_bytes(raw)


# Broken rows


def tree_of(file: Path) -> tuple[Tree, Callable[[Tree], bytes]]:
    """A file's content as plain data, and how to write such data in the file's format."""
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(file).to_pylist(), _parquet
    text = file.read_text()
    if file.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text))), _csv
    if file.suffix == ".tsv":
        return list(csv.DictReader(io.StringIO(text), delimiter="\t")), _tsv
    try:
        return json.loads(text), lambda tree: json.dumps(tree).encode()
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()], _lines


def _lines(tree: Tree) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in tree).encode()


def _tsv(tree: Tree) -> bytes:
    return _csv(tree, "\t")


def _csv(tree: Tree, delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in tree for key in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(tree)
    return stream.getvalue().encode()


def _parquet(tree: Tree) -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(tree), stream)
    return stream.getvalue()


def everywhere(tree: Tree, at: tuple[Any, ...] = (), shape: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Shape and place of every value: rows are alike, and so are entries whose keys are numbers or file names."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in inside:
        named = isinstance(key, str) and not re.search(r"\d|/", key)
        below = f"{shape}.{key}" if named else f"{shape}.*"
        yield below, (*at, key)
        yield from everywhere(value, (*at, key), below)


def one_of_each(tree: Tree) -> dict[str, tuple[Any, ...]]:
    """The last of the places of each shape, so that the first row is a good one."""
    return {shape: place for shape, place in everywhere(tree) if len(place) > 1 or not isinstance(tree, list)}


def at(tree: Tree, place: tuple[Any, ...]) -> Tree:
    for key in place:
        tree = tree[key]
    return tree


def in_each_row(tree: Tree, place: tuple[Any, ...], edit: Callable[[Tree, Any], object]) -> None:
    """Edit one place, or the same one in every row of a table: columns are alike in all rows."""
    for row in tree if isinstance(tree, list) and isinstance(tree[0], dict) else ():
        edit(at(row, place[1:-1]), place[-1])


def refused(
    name: str, folder: Path, file: Path, change: Callable[[Tree, Any], object], place: tuple[Any, ...]
) -> list[str]:
    """What is said when one place of a file is changed; the file is as it was afterwards."""
    raw = file.read_bytes()
    tree, write = tree_of(file)
    tree = copy.deepcopy(tree)
    if write in (_csv, _tsv, _parquet):
        in_each_row(tree, place, change)
    else:
        change(at(tree, place[:-1]), place[-1])
    file.write_bytes(write(tree))
    said = complaints(name, folder)
    file.write_bytes(raw)
    return said


def row_files(name: str, folder: Path) -> Iterator[tuple[Path, dict[str, tuple[Any, ...]], Tree]]:
    for file in layouts(folder, UNREAD.get(name, set())):
        if file.suffix != ".txt":
            tree, _ = tree_of(file)
            yield file, one_of_each(tree), tree


def placed(file: Path) -> tuple[str, str]:
    """File, and its row or line or entry or key."""
    return re.escape(file.name), r"(row|line) \d+|'[^']+'|holds|should"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_key_is_named(name: str, folder: Path) -> None:
    tried = 0
    for file, places, _ in row_files(name, folder):
        for place in places.values():
            if not isinstance(place[-1], str) or re.search(r"\d|/", place[-1]):
                continue
            optional = {*OPTIONAL.get(name, ()), *(("path",) if file.suffix == ".parquet" else ())}
            said = refused(name, folder, file, lambda held, key: held.pop(key, None), place)
            if said or place[-1] not in optional:
                clear(said, *placed(file))
            tried += 1
    assert tried or name == "mme"


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_another_type_is_named(name: str, folder: Path) -> None:
    for file, places, _ in row_files(name, folder):
        if file.suffix in (".csv", ".tsv"):
            continue  # all cells are texts
        for shape, place in places.items():
            if shape.endswith(".path") or shape == ".other":
                continue  # a picture's name in a table, and a key of prompt.json that is not read
            for wrong in ({"quite": ["other"]}, *([] if "_rate" in str(place[-1]) else [7.5])):
                said = refused(name, folder, file, lambda held, key, w=wrong: held.__setitem__(key, w), place)
                clear(said, *placed(file))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LENIENT])
def test_an_unknown_key_is_named(name: str, folder: Path) -> None:
    for file, places, tree in row_files(name, folder):
        row = (len(tree) - 1,) if isinstance(tree, list) else ()
        inside = [] if file.suffix in (".parquet", ".tsv") else places.values()
        for place in (row, *inside):
            if not isinstance(at(tree, place), dict) or (place == () and file.name in FREE):
                continue
            said = refused(name, folder, file, lambda row, key: row.__setitem__(key, "x"), (*place, "unknown_key"))
            clear(said, *placed(file), "unknown_key")


@pytest.mark.parametrize("name", NAMES)
def test_a_huge_row_is_named_and_not_taken(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rows, llava_instruct, mme):
        monkeypatch.setattr(module, "LONGEST", 200_000)
    assert complaints(name, folder) == []
    for file in layouts(folder, UNREAD.get(name, set())):
        if file.suffix == ".txt":
            raw = file.read_bytes()
            file.write_bytes(raw.replace(b"?", b"?" * 200_001, 1))
            clear(complaints(name, folder), re.escape(file.name), "line 1 .*longer")
            file.write_bytes(raw)
            continue
        tree, _ = tree_of(file)
        place = next(place for place in one_of_each(tree).values() if isinstance(at(tree, place), str))
        said = refused(name, folder, file, lambda held, key: held.__setitem__(key, "word " * 50_000), place)
        clear(said, *placed(file), "is longer than|field larger than")


# Broken pictures


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_picture_is_named(name: str, folder: Path) -> None:
    for spec in specs(name, folder):
        items = list(read_any(spec))
        files = [image.path for item in items for image in item.images if image.path is not None]
        for content, says in ((None, "1 are missing"), (b"", "empty"), (b"words", "not a readable picture")):
            if not files:
                break
            raw = files[-1].read_bytes()
            files[-1].unlink() if content is None else files[-1].write_bytes(content)
            with pytest.raises(VlmendError) as caught:
                (load_pairs if isinstance(items[0], Pair) else load)(spec)
            clear([str(caught.value)], re.escape(files[-1].stem), says)
            files[-1].write_bytes(raw)


@pytest.mark.parametrize("name", ["beavertails_v", "spa_vl"])
def test_a_missing_picture_inside_a_table_is_named(name: str, folder: Path) -> None:
    for file, _, _ in row_files(name, folder):
        for hole in (None, b""):
            change = lambda cell, key, hole=hole: cell.__setitem__(key, hole)  # noqa: E731
            clear(refused(name, folder, file, change, (0, "image", "bytes")), *placed(file), "no picture")
