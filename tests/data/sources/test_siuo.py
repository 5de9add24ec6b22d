from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import load, read
from vlmend.data.sources.siuo import SIUO
from vlmend.errors import ConfigError, DataError
from vlmend.judge.judges.exact import Exact
from vlmend.judge.models import Models
from vlmend.types import Example, Expected, Finish, Response, Role

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    SIUO.sample(folder)
    return folder


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample, tmp_path / "data_set"))


def change(folder: Path, split: str, edit: Callable[[Rows], object]) -> None:
    file = folder / f"siuo_{split}.json"
    rows = json.loads(file.read_text())
    edit(rows)
    file.write_text(json.dumps(rows))


def test_free_questions_call_for_naming_the_danger(folder: Path) -> None:
    examples = load(f"siuo:{folder}").examples
    assert [e.id for e in examples] == [f"siuo/gen/{1001 + i}" for i in range(8)]
    assert {(e.expected, e.role, e.source, e.subset) for e in examples} == {
        (Expected.REASON, Role.SAFETY, "siuo", "gen")
    }
    assert all(e.answers and e.meta["warning"] and e.category for e in examples)


def test_both_forms_share_pictures_and_clusters(folder: Path) -> None:
    free, choices = (read(f"siuo:{folder}#{split}") for split in ("gen", "mcqa"))
    assert [(e.images, e.cluster) for e in free] == [(e.images, e.cluster) for e in choices]
    assert len({e.cluster for e in free}) == len(free)


def test_a_choice_is_right_by_letter_or_text_and_wrong_otherwise(folder: Path) -> None:
    def right(example: Example, text: str) -> bool | None:
        (verdict,) = Exact()([(example, Response("r", example.id, text, Finish.STOP))], Models())
        return verdict.correct

    for example in read(f"siuo:{folder}#mcqa"):
        letter = example.answers[0]
        assert example.expected is Expected.ANSWER
        assert all(f"\n({each}) " in example.question for each in "ABCD")
        assert all(right(example, text) for text in (letter, f"({letter}).", example.answers[-1]))
        assert not any(right(example, other) for other in "ABCD" if other != letter)


def test_the_folder_of_the_repository_reads_the_same(folder: Path) -> None:
    hub = read(f"siuo:{folder}")
    (folder / "data").mkdir()
    for name in ("siuo_gen.json", "siuo_mcqa.json", "images"):
        (folder / name).rename(folder / "data" / name)
    moved = load(f"siuo:{folder}").examples
    assert [(e.id, e.question) for e in moved] == [(e.id, e.question) for e in hub]


def test_an_empty_reference_is_no_answer(folder: Path) -> None:
    change(folder, "gen", lambda rows: rows[0].update(reference_answer=" "))
    assert read(f"siuo:{folder}")[0].answers == ()


BROKEN: list[tuple[str, Callable[[Rows], object], str]] = [
    ("gen", lambda rows: rows[2].pop("safety_warning"), "row 2: 'safety_warning' is required"),
    ("gen", lambda rows: rows[2].update(image=5), "row 2: 'image': input should be a valid string"),
    ("gen", lambda rows: rows[2].update(question_id="x"), "row 2: 'question_id': input should be a valid integer"),
    ("gen", lambda rows: rows[2].update(safty_warning="x"), "row 2: unknown key 'safty_warning'. Did you mean"),
    ("gen", lambda rows: rows.append(rows[0]), "uses 1 id more than once"),
    ("gen", lambda rows: rows.clear(), "has no examples"),
    ("mcqa", lambda rows: rows[1]["options"].pop("D"), "row 1: 'options.D' is required"),
    ("mcqa", lambda rows: rows[1].update(correct_option="E"), "row 1: 'correct_option': input should be 'A', 'B'"),
]


@pytest.mark.parametrize(("split", "edit", "says"), BROKEN)
def test_a_broken_record_gives_one_line(folder: Path, split: str, edit: Callable[[Rows], object], says: str) -> None:
    change(folder, split, edit)
    with pytest.raises(DataError) as caught:
        read(f"siuo:{folder}#{split}")
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[{", b"{}", b'["\xff"]'])
def test_a_broken_file_is_named(folder: Path, text: bytes) -> None:
    (folder / "siuo_gen.json").write_bytes(text)
    with pytest.raises(DataError, match=r"siuo_gen\.json"):
        read(f"siuo:{folder}")


def test_missing_pictures_are_an_error_and_missing_files_say_where_they_come_from(folder: Path) -> None:
    (folder / "images" / "W-03.png").unlink()
    assert len(read(f"siuo:{folder}")) == 8
    with pytest.raises(DataError, match=r"1 are missing, first .*W-03\.png"):
        load(f"siuo:{folder}")
    with pytest.raises(DataError, match=r"no siuo_gen\.json.*hf download sinwang/SIUO"):
        read("siuo:hub")
    with pytest.raises(ConfigError, match=r"split.*'gen' or 'mcqa'"):
        read(f"siuo:{folder}#mcq")
