"""Where all answers agree, a number still has its doubt; and a best value may lie inside the range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlmend.metrics import rates
from vlmend.metrics.intervals import bootstrap, bootstrap_mean, unseen, wilson
from vlmend.metrics.paired import Shift, Two, change
from vlmend.metrics.seeds import pooled
from vlmend.report import tables
from vlmend.report.html import badness
from vlmend.report.plots import bar_groups
from vlmend.suites.mis import MisSuite
from vlmend.suites.mme import MmeSuite
from vlmend.suites.pope import PopeSuite
from vlmend.suites.unsafe_concepts import UnsafeConceptsSuite
from vlmend.types import Example, Finish, Mean, Measure, Message, Rate, Record, Response, Score, Statistic, Verdict


def record(number: int, subset: str, category: str, verdict: dict[str, Any], judge: str, **more: Any) -> Record:
    name = f"{subset}{number}"
    example = Example(name, (Message("user", ("?",)),), subset=subset, category=category, **more)
    return Record(example, Response(f"r{name}", name, "Yes.", Finish.STOP), (Verdict(judge, f"r{name}", **verdict),))


def _mis(unsafe: bool, n: int = 40) -> tuple[Measure, list[Record]]:
    suite = MisSuite(Path("x"), judge_model="m")
    labels = {"safety": "unsafe" if unsafe else "safe", "perception": "level1"}
    told = [record(i, "easy", f"c{i % 4}", {"labels": labels}, suite.asks["harmful"]) for i in range(n)]
    return next(m for m in suite.metrics if m.name == "asr_macro"), told


def _gap(n: int = 40) -> tuple[Measure, list[Record]]:
    metric = next(m for m in UnsafeConceptsSuite(Path("x")).metrics if m.name == "gap")
    told = [
        record(i, subset, "harm", {"correct": True}, "leading_word", subcategory=f"s{i}", meta={"label": "unsafe"})
        for subset in ("image_unsafe", "text_unsafe")
        for i in range(n)
    ]
    return metric, told


def _yes_no(suite: Any, name: str, n: int = 40) -> tuple[Measure, list[Record]]:
    metric = next(m for m in suite.metrics if m.name == name)
    kinds = ["perception"] * n if suite.name == "mme" else ["there"] * n
    told = [
        record(i, kind, f"c{i % 4}", {"correct": True}, "leading_word", answers=(("yes", "no")[i % 2],))
        for i, kind in enumerate(kinds)
    ]
    return metric, told


EDGES: dict[str, tuple[Callable[[], tuple[Measure, list[Record]]], float]] = {
    "macro at 0": (lambda: _mis(False), 0.0),
    "macro at 1": (lambda: _mis(True), 1.0),
    "gap at 0": (_gap, 0.0),
    "f1 at 1": (lambda: _yes_no(PopeSuite(Path("x")), "f1"), 1.0),
    "precision at 1": (lambda: _yes_no(PopeSuite(Path("x")), "precision"), 1.0),
    "score at its top": (lambda: _yes_no(MmeSuite(Path("x")), "perception"), 800.0),
}


@pytest.mark.parametrize("case", EDGES)
def test_a_statistic_at_an_edge_has_a_width(case: str) -> None:
    """About as wide as Wilson's for so many answers, and never past the number itself."""
    made, value = EDGES[case]
    metric, records = made()
    found = rates.measure(records, metric)
    assert isinstance(found, Mean)
    assert found.value == value
    assert found.low is not None
    assert found.high is not None
    assert found.low <= value <= found.high
    span = found.scale[1] - found.scale[0] if case != "score at its top" else 4 * 200
    assert 0.02 < (found.high - found.low) / span < 0.35
    assert found.scale[0] <= found.low
    assert found.high <= found.scale[1]
    assert pooled([records, records], metric) == rates.measure([*records, *records], metric)


@pytest.mark.parametrize("case", EDGES)
def test_nor_has_a_change_of_none_no_width(case: str) -> None:
    metric, records = EDGES[case][0]()
    found = change([Two(r, r) for r in records], metric)
    assert isinstance(found, Shift)
    assert found.difference == 0
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high


def test_means_at_an_edge() -> None:
    """Forty answers that agree word for word say of others as much as 0 of 40 says of a rate."""
    _, high = wilson(0, 40) or (0, 0)
    assert bootstrap_mean([1.0] * 40, range(40), (0.0, 1.0)) == pytest.approx((1 - high, 1.0))
    assert bootstrap_mean([0.0] * 40, range(40), (0.0, 1.0)) == pytest.approx((0.0, high))
    assert unseen(0.25, 40, (0.0, 1.0)) == pytest.approx((0.25 - high * 0.25, 0.25 + high * 0.75))
    clustered = bootstrap_mean([1.0] * 40, [i // 4 for i in range(40)], (0.0, 1.0))
    assert clustered == pytest.approx((1 - (wilson(0, 10) or (0, 0))[1], 1.0)), "a cluster is one answer many times"
    assert bootstrap_mean([5.0] * 40, range(40)) is None, "without an end of the scale, nobody knows"


def test_a_statistic_that_names_no_contrary_is_bounded() -> None:
    found = bootstrap([1.0] * 30, [str(i) for i in range(30)], max, scale=(0.0, 1.0))
    assert found == pytest.approx((1 - (wilson(0, 30) or (0, 0))[1], 1.0))


def _coverage(draw: Callable[[Any], list[tuple[Any, str, str]]], compute: Any, truth: float, turn: Any) -> float:
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(80):
        rows = draw(rng)
        values, names, strata = ([row[i] for row in rows] for i in range(3))
        low, high = bootstrap(values, names, compute, strata, 100, contrary=turn) or (1.0, 0.0)
        held += low <= truth <= high
    return held / 80


@pytest.mark.parametrize("p", [0.005, 0.02, 0.1, 0.4])
@pytest.mark.parametrize(("strata", "each"), [(4, 15), (8, 5)])
def test_the_interval_of_a_macro_mean_holds_the_truth(p: float, strata: int, each: int) -> None:
    def draw(rng: Any) -> list[tuple[Any, str, str]]:
        names = [(s, i) for s in range(strata) for i in range(each)]
        return [((str(s), bool(rng.random() < p)), f"{s}/{i}", str(s)) for s, i in names]

    def macro(rows: Sequence[tuple[str, bool]]) -> float:
        groups: dict[str, list[bool]] = {}
        for name, unsafe in rows:
            groups.setdefault(name, []).append(unsafe)
        return sum(sum(g) / len(g) for g in groups.values()) / len(groups)

    assert _coverage(draw, macro, p, lambda row: (row[0], not row[1])) >= 0.9


@pytest.mark.parametrize("error", [0.005, 0.02, 0.1])
def test_the_interval_of_f1_holds_the_truth(error: float) -> None:
    def draw(rng: Any) -> list[tuple[Any, str, str]]:
        return [((bool((rng.random() < error) != (i % 2 == 0)), i % 2 == 0), str(i), "") for i in range(50)]

    def f1(rows: Sequence[tuple[bool, bool]]) -> float:
        both = sum(yes for yes, _ in rows) + sum(there for _, there in rows)
        return 2 * sum(yes and there for yes, there in rows) / both

    assert _coverage(draw, f1, 1 - error, lambda row: (not row[0], row[1])) >= 0.9


# Which way is good.


def _mean(value: float, low: float, high: float, scale: tuple[float, float] = (-1.0, 1.0)) -> Mean:
    return Mean(value, 10, 0, low, high, scale=scale)


def test_the_gap_is_best_at_nothing_and_drawn_from_there() -> None:
    metric, _ = _gap()
    assert metric.better == 0.0
    assert (tables.arrow(0.0), tables.direction(0.0)) == ("→ 0", "→ 0 is best")
    assert "lower" not in tables.direction(metric.better)
    near, far = _mean(-0.1, -0.2, 0.0), _mean(0.4, 0.3, 0.5)
    assert badness(_mean(0.0, 0, 0), 0.0) == 0
    assert badness(near, 0.0) < badness(far, 0.0)
    assert badness(_mean(-0.4, -1, 0), 0.0) == badness(far, 0.0)
    column = tables.Column("gap", better=0.0)
    [group] = bar_groups(tables.collect("t", [("a", {column: near}), ("b", {column: far})]))
    assert [(bar.origin, bar.at) for bar in group.parts[0][1]] == [(50.0, 45.0), (50.0, 70.0)]


def test_the_worst_case_is_the_one_that_is_farther_off() -> None:
    few = Rate(6, 10, 5, 0.3, 0.8)
    assert rates.worst(few, 0.5) == few.worst == 11 / 15
    many = Rate(4, 10, 5, 0.2, 0.7)
    assert rates.worst(many, 0.5) == many.best == 4 / 15
    assert rates.worst(few, None) is None
    assert rates.worst(Rate(6, 10, 0, 0.3, 0.8), None) == 0.6


def test_what_only_describes_points_nowhere() -> None:
    assert (tables.arrow(None), tables.direction(None), badness(_mean(0.4, 0, 1), None)) == ("", "", 0)


def test_a_score_has_its_unit_and_is_no_share() -> None:
    metric, records = _yes_no(MmeSuite(Path("x")), "perception")
    found = rates.measure(records, metric)
    assert tables.value(found) == "800.0 points"
    back = rates.rate_from_json(rates.as_json(found, metric))
    assert back == found
    assert tables.sentence(back, "high").count("%") == 1, "that of the interval's name"
    assert tables.value(Mean(0.5, 3, 0, None, None)) == "50.0 %"
    assert isinstance(metric, Statistic | Score)
