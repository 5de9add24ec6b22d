"""SafeEraser's suite: one half alone has the numbers of the whole, and only unsafe questions are asked three times."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.registry import sources, suites


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("safeeraser")
    sources.find("safeeraser").sample(folder)
    return folder


def asked(data: Path, options: str, out: Path) -> Counter[tuple[str, str]]:
    """How many answers were asked for, by split and subset."""
    suite = f"safeeraser:{data}{options}"
    assert main(["generate", "--model", "scripted:comply", "--suite", suite, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    return Counter((row["example"]["id"].split("/")[1], row["example"]["subset"]) for row in rows)


def test_as_coded_samples_unsafe_questions_three_times_and_the_others_once(data: Path, tmp_path: Path) -> None:
    plain, coded = (asked(data, f"?protocol={p}", tmp_path / p) for p in ("default", "as_coded"))
    assert {subset for _, subset in plain} > {"forget"}
    assert coded == {key: count * (3 if key[1] == "forget" else 1) for key, count in plain.items()}


def test_the_halves_are_what_the_whole_asks_and_measures(data: Path, tmp_path: Path) -> None:
    whole, first, second = (asked(data, f"?half={h}", tmp_path / h) for h in ("both", "efficacy", "generality"))
    assert first + second == whole
    assert {*first} == {("train", "forget")}
    names = {half: {m.name for m in suites.from_spec(f"safeeraser:x?half={half}").metrics} for half in HALVES}
    assert names["efficacy"] | names["generality"] == names["both"]
    assert not names["efficacy"] & names["generality"]
    assert {*suites.from_spec("safeeraser:x?half=efficacy").asks} == {"harmful", "refused"}


HALVES = ("both", "efficacy", "generality")
