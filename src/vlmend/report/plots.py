"""Bars with intervals, as plain numbers in percent: the page draws them with its own style sheet.

No picture file is made, so that text stays text, bars fit a phone, and light and dark need no second drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.report.tables import Column, RateTable, by_measure, position, sentence, value
from vlmend.types import Better, Measured

SERIES = 8  # colors in the style sheet; more models than that share them


@dataclass(frozen=True)
class Bar:
    """One model's rate: where the bar ends and where its interval lies, in percent of the axis.

    It is drawn from `origin`: the left end, or the value that is the best there is where that lies inside.
    """

    name: str
    color: int
    text: str
    says: str
    at: float | None
    low: float
    high: float
    origin: float = 0.0


@dataclass(frozen=True)
class BarGroup:
    """One measure: all models under each condition."""

    title: str
    better: Better
    summary: str
    parts: tuple[tuple[str, tuple[Bar, ...]], ...]


def bar_groups(table: RateTable) -> list[BarGroup]:
    """One group per measure, one part per condition, one bar per model that was measured."""
    return [
        BarGroup(name, columns[0].better, columns[0].summary, tuple((c.condition, _bars(table, c)) for c in columns))
        for name, columns in by_measure(table)
    ]


def _bars(table: RateTable, column: Column) -> tuple[Bar, ...]:
    return tuple(
        _bar(row.name, i % SERIES, row.rates[column], column.better)
        for i, row in enumerate(table.rows)
        if column in row.rates
    )


def _bar(name: str, color: int, rate: Measured, better: Better) -> Bar:
    at = None if rate.value is None else round(position(rate.value, rate), 2)
    low, high = (round(position(edge, rate), 2) for edge in (rate.low, rate.high))
    origin = round(position(better, rate), 2) if isinstance(better, float | int) else 0.0
    return Bar(name, color, value(rate), sentence(rate, better), at, low, high, origin)
