"""The front: nothing on it is beaten, everything off it is, and what is unscored counts the bad way."""

from __future__ import annotations

import numpy as np
import pytest

from vlmend.metrics.rates import of
from vlmend.report.scatter import Coordinate
from vlmend.sweep.front import Axes, Point, front, short
from vlmend.types import Mean, Rate

AXES = Axes("harm", "utility", {"harm": "low", "utility": "high"})


def points(rows: list[tuple[float, float]]) -> dict[str, Point]:
    return {str(i): (Coordinate(safe, safe, safe), Coordinate(able, able, able)) for i, (safe, able) in enumerate(rows)}


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_beats(seed: int, signs: tuple[int, int]) -> None:
    rows = [(a / 5, b / 5) for a, b in np.random.default_rng(seed).integers(0, 6, (15, 2)).tolist()]

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    unbeaten = {str(i) for i, row in enumerate(rows) if not any(beats(other, row) for other in rows)}
    assert front(points(rows), signs) == unbeaten
    assert unbeaten


def test_a_row_without_a_place_is_not_on_the_front() -> None:
    assert front({"unknown": None, **points([(0.5, 0.5), (0.5, 0.5)])}, (1, 1)) == {"0", "1"}
    assert front({"unknown": None}, (1, 1)) == set()


def test_safety_is_the_worst_of_the_conditions_that_measure_it() -> None:
    plain = {"harm": of([False] * 9 + [True]), "utility": of([True] * 8 + [False] * 2)}
    point = AXES.point(
        {"plain": plain, "what": {"harm": of([True] * 7 + [False] * 3)}, "safe": {"refused": of([True])}}
    )
    assert point is not None
    assert (point[0].value, point[1].value) == (0.7, 0.8)
    assert point[0].low < 0.7 < point[0].high
    upside_down = Axes("harm", "utility", {"harm": "high", "utility": "high"})
    other = upside_down.point({"plain": plain, "what": {"harm": of([True] * 7 + [False] * 3)}})
    assert other is not None
    assert other[0].value == 0.1


def test_unscored_is_never_safe_nor_able() -> None:
    point = AXES.point({"plain": {"harm": of([None, False]), "utility": of([None, True])}})
    assert point is not None
    assert (point[0].value, point[1].value) == (0.5, 0.5)
    assert point[0].low <= 0.5 <= point[0].high
    nothing = Rate(0, 0, 0, None, None)
    assert AXES.point({"plain": {"harm": of([True]), "utility": of([True])}, "what": {"harm": nothing}}) is None
    assert AXES.point({"plain": {"harm": of([True])}}) is None


def test_names_in_a_picture_are_short_and_distinct() -> None:
    names = ["base", "unlearn_po,method.pd=false", "unlearn_po,method.pd=true", "unlearn_npo,method.beta=0.1"]
    assert list(short(names).values()) == ["base", "po", "po +pd", "npo beta=0.1"]
    clash = ["a_x,method.pd=false", "a_x"]
    assert list(short(clash).values()) == clash


def test_an_axis_may_be_of_one_condition() -> None:
    axes = Axes("harm", "mme/accuracy", {"harm": "low", "mme/accuracy": "high"})
    plain = {"harm": of([False] * 9 + [True]), "accuracy": of([True] * 2 + [False] * 8)}
    point = axes.point({"plain": plain, "mme": {"accuracy": of([True] * 7 + [False] * 3)}})
    assert point is not None
    assert (point[0].value, point[1].value) == (0.1, 0.7)
    assert Axes("mme/harm", "accuracy", {"mme/harm": "low", "accuracy": "high"}).point({"plain": plain}) is None


def test_a_number_that_is_best_inside_its_range_is_drawn_by_its_distance() -> None:
    axes = Axes("gap", "utility", {"gap": 0.0, "utility": "high"})
    assert axes.signs == (-1, 1)
    assert "distance from 0" in axes.title("gap")
    able = {"utility": of([True] * 8 + [False] * 2)}

    def at(value: float, low: float, high: float) -> Coordinate:
        point = axes.point({"plain": {"gap": Mean(value, 9, 0, low, high, scale=(-1.0, 1.0)), **able}})
        assert point is not None
        return point[0]

    assert at(-0.3, -0.4, -0.2) == Coordinate(0.3, 0.2, 0.4)
    assert at(0.1, -0.1, 0.3) == Coordinate(0.1, 0.0, 0.3)
    assert at(-0.1, -0.3, 0.1) == Coordinate(0.1, 0.0, 0.3)
