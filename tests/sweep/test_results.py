"""Rows of a sweep from stored runs: pooled where seeds differ, honest about runs that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmend.errors import UsageError
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.report.tables import markdown
from vlmend.sweep.grid import Cell, Condition, conditions
from vlmend.sweep.results import check, measures, read, table
from vlmend.types import Rate

SEEDS = [Cell(Path("a.yaml"), (f"train.seed={seed}",)) for seed in range(3)]
ASKED = {"plain": Condition("world_unlearning?n=3&parts=unsafe"), "safe": Condition("world_unlearning?n=2&parts=safe")}
SCRIPTS = ("comply", "refuse", "comply")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three runs of a model that does whatever is asked, but the second, which refuses everything."""
    for cell, script in zip(SEEDS, SCRIPTS, strict=True):
        for name, asks in ASKED.items():
            evaluate(
                EvalConfig(model=f"scripted:{script}", suite=asks.suite, out=tmp_path / cell.name / name), quiet=True
            )
    return tmp_path


def counts(found: object) -> tuple[int, int]:
    assert isinstance(found, Rate)
    return found.k, found.n


def test_seeds_are_pooled_and_each_may_stand_alone(out: Path) -> None:
    (row,) = read(SEEDS, (), out, ASKED, ["train.seed"])
    assert row.name == "a"
    assert counts(row.found["plain"]["refused"]) == (3, 9)
    assert counts(row.found["safe"]["over_refusal"]) == (2, 6)
    alone = read(SEEDS, (), out, ASKED, [])
    assert [r.name for r in alone] == [cell.name for cell in SEEDS]
    assert [counts(r.found["plain"]["refused"]) for r in alone] == [(0, 3), (3, 3), (0, 3)]


def test_a_row_says_how_many_runs_it_lacks(out: Path) -> None:
    (row,) = read(SEEDS, {SEEDS[1].name}, out, ASKED, ["train.seed"])
    assert counts(row.found["plain"]["refused"]) == (0, 6)
    assert "| a * (2 of 3 runs) | 0.0 %" in markdown(table([row], ["refused"], {"a"}))
    assert read(SEEDS, {cell.name for cell in SEEDS}, out, ASKED, ["train.seed"]) == []


def test_a_table_has_what_is_wanted_under_each_condition_that_measures_it(out: Path) -> None:
    rows = read(SEEDS, (), out, ASKED, ["train.seed"])

    def head(*wanted: str) -> str:
        return markdown(table(rows, wanted, set())).splitlines()[0]

    assert head("refused") == "| model | refused ↑ |"
    assert head("harm", "safe/accuracy") == "| model | harm ↓ | accuracy, safe ↑ |"
    assert head("plain/accuracy", "plain/harm") == "| model | harm ↓ |"
    assert head().count("|") == 2 + 5


def test_names_of_metrics_are_checked() -> None:
    asked = conditions("world_unlearning", [], ["what=world_unlearning one_word:what"])
    known = measures(asked)
    check(["harm", "what/harm", "plain/utility"], known, asked)
    with pytest.raises(UsageError, match="Did you mean 'harm'"):
        check(["what/harn"], known, asked)
    with pytest.raises(UsageError, match="Did you mean 'what'"):
        check(["waht/harm"], known, asked)
