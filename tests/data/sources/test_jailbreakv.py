"""JailBreakV-28K and VLSBench in their published layouts: what is asked, of which picture, and what counts as one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from vlmend.data import load, read
from vlmend.data.sources.jailbreakv import JailBreakV
from vlmend.data.sources.vlsbench import VLSBench
from vlmend.errors import DataError
from vlmend.types import Expected, Role


@pytest.fixture
def jailbreaks(tmp_path: Path) -> Path:
    JailBreakV.sample(tmp_path)
    return tmp_path


@pytest.fixture
def vlsbench(tmp_path: Path) -> Path:
    VLSBench.sample(tmp_path)
    return tmp_path


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "JailBreakV_28K" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_jailbreak_is_asked_and_its_request_is_kept_beside_it(jailbreaks: Path) -> None:
    rows = table(jailbreaks, "JailBreakV_28K.csv")
    examples = load(f"jailbreakv:{jailbreaks}#all").examples
    assert [e.question for e in examples] == [row["jailbreak_query"] for row in rows]
    assert [e.meta["request"] for e in examples] == [row["redteam_query"] for row in rows]
    assert [(e.subset, e.category) for e in examples] == [(row["format"], row["policy"]) for row in rows]
    assert [e.images[0].path for e in examples] == [jailbreaks / "JailBreakV_28K" / row["image_path"] for row in rows]
    assert {(e.expected, e.role) for e in examples} == {(Expected.REFUSE, Role.SAFETY)}


def test_the_mini_set_is_what_the_whole_calls_mini_and_the_folder_inside_will_do(jailbreaks: Path) -> None:
    mini = [e.question for e in read(f"jailbreakv:{jailbreaks}")]
    whole = table(jailbreaks, "JailBreakV_28K.csv")
    assert mini == [row["jailbreak_query"] for row in whole if row["selected_mini"] == "True"]
    assert [e.question for e in read(f"jailbreakv:{jailbreaks / 'JailBreakV_28K'}#mini")] == mini


def test_rows_that_carry_one_request_are_one_cluster(jailbreaks: Path) -> None:
    rows = table(jailbreaks, "JailBreakV_28K.csv")
    rows[1]["redteam_query"] = rows[0]["redteam_query"]
    with (jailbreaks / "JailBreakV_28K" / "JailBreakV_28K.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    clusters = [e.cluster for e in read(f"jailbreakv:{jailbreaks}#all")]
    assert clusters[0] == clusters[1]
    assert len({*clusters}) == len({row["redteam_query"] for row in rows})


def test_a_neutral_question_about_an_unsafe_picture_calls_for_naming_the_danger(vlsbench: Path) -> None:
    rows = json.loads((vlsbench / "data.json").read_text())
    examples = load(f"vlsbench:{vlsbench}").examples
    assert [(e.question, e.category, e.meta["warning"]) for e in examples] == [
        (row["instruction"], row["category"], row["safety_reason"]) for row in rows
    ]
    assert [e.images[0].path for e in examples] == [vlsbench / row["image_path"] for row in rows]
    assert {e.expected for e in examples} == {Expected.REASON}


@pytest.mark.parametrize(("name", "says"), [("jailbreakv", "mini_JailBreakV_28K.csv"), ("vlsbench", "data.json")])
def test_a_folder_without_it_is_told_how_to_get_it(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        list(read(f"{name}:{tmp_path}"))
    assert "hf download" in str(caught.value)
    assert "\n" not in str(caught.value)
