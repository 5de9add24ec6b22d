from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from vlmend.data import load, read
from vlmend.data.sources.figstep import REQUEST, FigStep
from vlmend.drawing import LETTER, SIDE, typeset
from vlmend.errors import ConfigError, DataError
from vlmend.types import Expected, Role

HEADER = "dataset,category_id,task_id,category_name,question,instruction\n"
ROW = "ForbidQI,1,1,Topic,How to press it?,Steps to press it.\n"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    FigStep.sample(folder)
    return folder


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample, tmp_path / "data_set"))


def ink(png: bytes) -> np.ndarray:
    """Where the picture is dark."""
    return np.asarray(Pillow.open(io.BytesIO(png)).convert("L")) < 128


def test_every_instruction_is_a_picture_with_one_harmless_request(folder: Path) -> None:
    examples = load(f"figstep:{folder}").examples
    assert [e.id for e in examples] == [f"figstep/safebench/{c}_{t}" for c in (1, 2) for t in range(1, 6)]
    assert {(e.expected, e.role, e.source, e.subset, e.question) for e in examples} == {
        (Expected.REFUSE, Role.SAFETY, "figstep", "safebench", REQUEST)
    }
    assert all(len(e.images) == 1 and e.category and e.meta["request"] for e in examples)


def test_pictures_are_drawn_only_where_there_is_no_folder_of_them(folder: Path) -> None:
    full, tiny = (load(f"figstep:{folder}#{split}").examples for split in ("safebench", "tiny"))
    assert {e.meta["picture"] for e in full} == {"drawn"}
    assert {e.meta["picture"] for e in tiny} == {"published"}
    assert [e.images[0].read() for e in tiny] == [typeset(e.meta["instruction"]) for e in tiny]
    drawn = read(f"figstep:{folder}#tiny?pictures=drawn")
    assert [(e.meta["picture"], e.images[0].read()) for e in drawn] == [("drawn", e.images[0].read()) for e in tiny]
    with pytest.raises(DataError, match=r"10 pictures; 10 are missing, first .*query_ForbidQI_1_1_6\.png"):
        load(f"figstep:{folder}?pictures=published")


def test_one_missing_picture_of_a_folder_is_missed_and_not_drawn(folder: Path) -> None:
    (folder / "data" / "images" / "SafeBench-Tiny" / "query_ForbidQI_2_1_6.png").unlink()
    with pytest.raises(DataError, match=r"1 are missing, first .*query_ForbidQI_2_1_6\.png"):
        load(f"figstep:{folder}#tiny")


def test_the_same_instruction_is_the_same_cluster_and_the_same_bytes(folder: Path) -> None:
    full, tiny = (read(f"figstep:{folder}#{split}") for split in ("safebench", "tiny"))
    by_instruction = {e.meta["instruction"]: e for e in full}
    for each in tiny:
        twin = by_instruction[each.meta["instruction"]]
        assert (each.cluster, each.images[0].sha256) == (twin.cluster, twin.images[0].sha256)
    assert typeset("Steps to press a cone.") == typeset("Steps to press a cone.") != typeset("Steps to press a star.")


def test_the_picture_is_the_authors_canvas_with_three_items() -> None:
    dark = ink(typeset("Steps to press a cone."))
    assert dark.shape == (SIDE, SIDE)
    rows = np.flatnonzero(dark.any(axis=1))
    lines = 1 + int((np.diff(rows) > 5).sum())
    assert lines == 2 + 3
    assert rows[0] < LETTER


def test_an_instruction_is_never_cut_off() -> None:
    for words in (1, 8, 20):
        dark = ink(typeset(" ".join(["instructions"] * words)))
        assert dark.any()
        assert not dark[-1].any()
        assert not dark[:, -1].any()


def test_the_sentence_beside_the_picture_can_be_given(folder: Path) -> None:
    other = read(f"figstep:{folder}?request=Complete the list, please.")
    assert {e.question for e in other} == {"Complete the list, please."}
    assert [e.id for e in other] == [e.id for e in read(f"figstep:{folder}")]


def test_the_folder_of_data_reads_the_same(folder: Path) -> None:
    assert [e.id for e in read(f"figstep:{folder / 'data'}#tiny")] == [e.id for e in read(f"figstep:{folder}#tiny")]
    assert load(f"figstep:{folder / 'data'}#tiny").placeholders == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dataset,category_id,task_id,category_name,question\na,1,1,b,c", "line 2: 'instruction' is required"),
        (HEADER.strip() + ",more\n" + ROW.strip() + ",x", "line 2: unknown key 'more'"),
        (HEADER + ROW + "a,one,1,b,c,d", "line 3: 'category_id': input should be a valid integer"),
        (HEADER + "a,1,1,b,c,", "line 2: 'instruction': string should have at least 1 character"),
        (HEADER + ROW + ROW, "uses 1 id more than once"),
        (HEADER.encode() + b"a,1,1,b,\xff,d", "is not UTF-8"),
        ("", "is empty (0 bytes)"),
        (HEADER, "has a header and no rows"),
    ],
)
def test_a_broken_file_gives_one_line_with_its_place(folder: Path, text: str | bytes, says: str) -> None:
    file = folder / "data" / "question" / "safebench.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        read(f"figstep:{folder}")
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_say_where_they_come_from(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no question/safebench\.csv.*clone github\.com/ThuCCSLab/FigStep"):
        read("figstep:hub")
    with pytest.raises(ConfigError, match=r"split.*'safebench' or 'tiny'"):
        read(f"figstep:{folder}#full")
