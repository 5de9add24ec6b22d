"""Words by log-odds and count, as plain numbers in percent: the page draws dots and labels with its own style sheet.

Labels are placed for the narrowest screen, so that they overlap on none; a word whose label finds no room keeps
its dot, and its numbers for who points at it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

NARROW = 260  # pixels that the plot has on a phone
TALL = 320
LETTER, LINE, GAP = 6.2, 15.0, 6.0  # pixels of a label
SHIFTS = (0, 9, -9)  # pixels by which a label may stand lower than its dot


@dataclass(frozen=True)
class Point:
    """One word: how often it comes with each label, and its log-odds toward refusal."""

    word: str
    refused: int
    answered: int
    log_odds: float

    @property
    def count(self) -> int:
        """How many examples say it."""
        return self.refused + self.answered

    @property
    def says(self) -> str:
        """Everything in words, for hovering and screen readers."""
        return f"{self.word}: refused {self.refused}, answered {self.answered}, log-odds {self.log_odds:+.2f}"


@dataclass(frozen=True)
class Dot:
    """A word's place in percent of the plot, which side it speaks for, and whether its label has room and where."""

    point: Point
    x: float
    y: float
    label: str  # "right", "left" or "" for none
    shift: int  # pixels that the label stands lower than its dot


@dataclass(frozen=True)
class Layout:
    """All dots, where zero lies, and the ticks of both axes as (percent, text)."""

    dots: tuple[Dot, ...]
    zero: float
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def layout(points: Sequence[Point]) -> Layout:
    """Log-odds across, count upward on a logarithmic scale; the first points get their labels first."""
    if not points:
        return Layout((), 50.0, (), ())
    widest = max(1.0, *(abs(point.log_odds) for point in points)) * 1.08
    most, least = (math.log10(f(point.count for point in points)) for f in (max, min))
    span = max(most - least, 0.3)

    def across(value: float) -> float:
        return 50 + 50 * value / widest

    def up(value: float) -> float:
        return 4 + 92 * (math.log10(value) - least) / span

    placed: list[tuple[float, float, float, float]] = []
    dots: list[Dot] = []
    for point in points:
        x, y = across(point.log_odds), up(point.count)
        dots.append(Dot(point, round(x, 2), round(y, 2), *_place(point.word, x, y, placed)))
    step = 2 if widest > 3 else 1
    ticks = [value for value in range(-8, 9, step) if abs(value) < widest]
    counts = [10**power for power in range(7) if least - 0.05 <= power <= most + 0.05]
    return Layout(
        tuple(dots),
        50.0,
        tuple((round(across(value), 2), f"{value:+d}" if value else "0") for value in ticks),
        tuple((round(up(value), 2), f"{value:,}") for value in counts),
    )


def _place(word: str, x: float, y: float, placed: list[tuple[float, float, float, float]]) -> tuple[str, int]:
    """The side of its dot on which a label has room, and how much lower it stands; where there is none, nothing."""
    left, width = x / 100 * NARROW, LETTER * len(word)
    for shift, (side, start) in product(SHIFTS, (("right", left + GAP), ("left", left - GAP - width))):
        middle = y / 100 * TALL - shift
        box = (start, middle - LINE / 2, start + width, middle + LINE / 2)
        if box[0] >= 0 and box[2] <= NARROW and not any(_overlap(box, other) for other in placed):
            placed.append(box)
            return side, shift
    return "", 0


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
