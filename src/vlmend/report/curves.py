"""Curves with intervals, as plain numbers in percent: the page draws them with its own style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmend.report.tables import position, sentence
from vlmend.types import Measured

Steps = Sequence[tuple[str, Measured | None]]


@dataclass(frozen=True)
class Mark:
    """One point of a curve in percent of the plot, with the ends of its interval, and everything in words."""

    x: float
    y: float
    low: float
    high: float
    says: str


@dataclass(frozen=True)
class Curve:
    """One series: its marks from left to right, and the line through them as `x,y …` from the top left corner."""

    name: str
    color: int
    marks: tuple[Mark, ...]
    line: str


@dataclass(frozen=True)
class Plot:
    """Some series over the same steps, and where those stand, as (percent, text)."""

    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]


def plot(series: Mapping[str, Steps]) -> Plot:
    """Steps stand at even distances in the order in which they first come; what was not measured leaves a gap."""
    names = list(dict.fromkeys(name for steps in series.values() for name, _ in steps))
    at = {name: round(100 * (i + 0.5) / len(names), 2) for i, name in enumerate(names)}
    curves = [_curve(name, color, steps, at) for color, (name, steps) in enumerate(series.items(), start=1)]
    return Plot(tuple(curves), tuple((x, name) for name, x in at.items()))


def _curve(name: str, color: int, steps: Steps, at: Mapping[str, float]) -> Curve:
    marks = tuple(_mark(at[step], f"{name}, {step}", rate) for step, rate in steps if rate and rate.value is not None)
    return Curve(name, color, marks, " ".join(f"{mark.x},{round(100 - mark.y, 2)}" for mark in marks))


def _mark(x: float, name: str, rate: Measured) -> Mark:
    y, low, high = (round(position(edge, rate), 2) for edge in (rate.value, rate.low, rate.high))
    return Mark(x, y, low, high, f"{name}: {sentence(rate)}")
