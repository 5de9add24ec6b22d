"""Tables of rates: the one shape that Markdown and page are drawn from. Every number comes from a Rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from vlmend.errors import StoreError
from vlmend.metrics.rates import rate_from_json, worst
from vlmend.terminal import plural
from vlmend.types import Better, Mean, Measured, Tone

NOTHING = "–"  # what a rate of nothing looks like: it is not 0
SIGNS: Mapping[Tone, str] = {"good": "✓ ", "bad": "✗ ", "neutral": ""}  # before the name of an outcome
MARK = "‡"  # behind a number that was read from a judge that failed its known controls
CLUSTERS = "Intervals are Wilson's; those of clusters where k of n names clusters."


@dataclass(frozen=True)
class Column:
    """One measure under one condition, such as attack success after 'what'."""

    name: str
    condition: str = ""
    better: Better = "low"
    summary: str = ""

    @property
    def title(self) -> str:
        """Name and condition in one line."""
        return f"{self.name}, {self.condition}" if self.condition else self.name


@dataclass(frozen=True)
class Row:
    """One model. A column without a rate was not measured."""

    name: str
    rates: Mapping[Column, Measured]
    note: str = ""


@dataclass(frozen=True)
class RateTable:
    """Models by measures."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    caption: str = field(default="Shares of examples in percent, with the 95 % interval and k of n. " + CLUSTERS)

    @property
    def marks(self) -> list[str]:
        """What is wrong with judges that numbers were read from."""
        return marks(rate for row in self.rows for rate in row.rates.values())

    def only(self, keep: Callable[[Column], bool]) -> RateTable:
        """The same table with some columns."""
        columns = tuple(column for column in self.columns if keep(column))
        return RateTable(self.title, columns, self.rows, self.note, self.caption)


def percent(value: float | None) -> str:
    """`0.455` to `45.5`; None to a dash."""
    return NOTHING if value is None else f"{100 * value:.1f}"


def relative(rate: Measured) -> bool:
    """Whether the number is a share, to be shown in percent: every rate is, and a mean between -1 and 1."""
    return not isinstance(rate, Mean) or (rate.scale[0] >= -1 and rate.scale[1] <= 1)


def number(value: float | None, rate: Measured) -> str:
    """A value on the rate's scale: in percent where it is relative."""
    return percent(value) if relative(rate) or value is None else f"{value:.1f}"


def unit(rate: Measured) -> str:
    """What a number is measured in, after a space: percent where it is a share, else what its measure says."""
    own = rate.measured_in if isinstance(rate, Mean) else ""
    return " %" if relative(rate) else f" {own}" if own else ""


def amount(value: float | None, rate: Measured) -> str:
    """A number with its unit, or a dash."""
    return NOTHING if value is None else number(value, rate) + unit(rate)


def position(value: float | None, rate: Measured) -> float:
    """Where a value lies on the rate's scale, from 0 to 100; 0 when there is none, or a scale has no end."""
    low, high = rate.scale if isinstance(rate, Mean) else (0.0, 1.0)
    return 0.0 if value is None or not math.isfinite(high - low) else 100 * (value - low) / (high - low)


def value(rate: Measured | None) -> str:
    """The rate in its unit, or a dash when nothing was scored; with a mark where a judge is not to be trusted."""
    if rate is None:
        return NOTHING
    return amount(rate.value, rate) + (f" {MARK}" if rate.marked else "")


def marks(rates: Iterable[Measured | None]) -> list[str]:
    """A line for every reason that one of the rates is marked for."""
    return [f"{MARK} {why}" for why in dict.fromkeys(rate.marked for rate in rates if rate is not None and rate.marked)]


def interval(rate: Measured | None) -> str:
    """`38.7 to 52.4`, or the empty string when there is none."""
    if rate is None or rate.low is None or rate.high is None:
        return ""
    return f"{number(rate.low, rate)} to {number(rate.high, rate)}"


def counted(rate: Measured) -> str:
    """`91/200`, and in how many clusters where the interval is theirs."""
    text = f"n={rate.n}" if isinstance(rate, Mean) else f"{rate.k}/{rate.n}"
    return f"{text} in {clustered(rate.clusters)}" if 0 < rate.clusters < rate.n else text


def clustered(count: int) -> str:
    """`1 cluster`, `12 clusters`."""
    return plural(count, "cluster")


def counts(rate: Measured | None) -> str:
    """The same, and what could not be scored."""
    if rate is None:
        return ""
    return counted(rate) + (f" +{rate.unscored} unscored" if rate.unscored else "")


def worst_text(rate: Measured, better: Better) -> str:
    """The worst case as text, or a dash where it cannot be known."""
    return amount(worst(rate, better), rate)


def sentence(rate: Measured | None, better: Better = "low") -> str:
    """Everything about a rate in words, for hovering and screen readers."""
    if rate is None:
        return "not measured"
    if rate.value is None:
        return f"nothing scored, {rate.unscored} unscored"
    counted = f"mean of {rate.n}" if isinstance(rate, Mean) else f"{rate.k} of {rate.n}"
    text = f"{value(rate)}: {counted}, {kind(rate)} {interval(rate) or NOTHING}{unit(rate)}"
    if rate.unscored:
        text += f"; {rate.unscored} unscored, worst case {worst_text(rate, better)}"
    return f"{text}; {rate.marked}" if rate.marked else text


def kind(rate: Measured) -> str:
    """What the interval is called."""
    how = "bootstrap " if isinstance(rate, Mean) else ""
    return f"95 % {how}interval" + (f" of {clustered(rate.clusters)}" if 0 < rate.clusters < rate.n else "")


def from_metrics(metrics: Mapping[str, Mapping[str, Any]], condition: str = "") -> dict[Column, Measured]:
    """The `metrics` object of a run as columns and rates."""
    try:
        return {
            Column(name, condition, row.get("better", "low"), row.get("summary", "")): rate_from_json(row)
            for name, row in metrics.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"these are no rates of a run ({error!r}); `vlmend score` counts them anew") from error


def collect(title: str, rows: Iterable[tuple[str, Mapping[Column, Measured]]], note: str = "") -> RateTable:
    """One table from (model, rates) pairs: pairs of the same model join into one row; columns group by measure."""
    joined: dict[str, dict[Column, Measured]] = {}
    for name, rates in rows:
        joined.setdefault(name, {}).update(rates)
    columns = dict.fromkeys(column for rates in joined.values() for column in rates)
    measures = list(dict.fromkeys(column.name for column in columns))
    ordered = sorted(columns, key=lambda column: measures.index(column.name))
    return RateTable(title, tuple(ordered), tuple(Row(name, rates) for name, rates in joined.items()), note)


def by_measure(table: RateTable) -> list[tuple[str, list[Column]]]:
    """The columns of each measure: it under its conditions."""
    return [(name, list(columns)) for name, columns in groupby(table.columns, key=lambda column: column.name)]


def markdown(table: RateTable) -> str:
    """A GitHub-flavored Markdown table."""
    head = ["model", *(f"{_escape(column.title)} {arrow(column.better)}".strip() for column in table.columns)]
    lines = [_line(head), _line(["---", *("---:" for _ in table.columns)])]
    for row in table.rows:
        lines.append(_line([_escape(row.name), *(_cell(row.rates.get(column)) for column in table.columns)]))
    lines += [line for why in table.marks for line in ("", _escape(why))]
    return "\n".join(lines) + "\n"


def _cell(rate: Measured | None) -> str:
    parts = [value(rate), f"[{interval(rate)}]" if interval(rate) else "", counts(rate)]
    return " ".join(part for part in parts if part)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def arrow(better: Better) -> str:
    """Which way is better, or which value is best; the empty string where neither way is."""
    if better is None:
        return ""
    return {"low": "↓", "high": "↑"}.get(better, "") if isinstance(better, str) else f"→ {best(better)}"


def best(target: float) -> str:
    """A value that is the best there is, as text: `0`, `50 %`."""
    return f"{100 * target:g} %" if target else "0"


def direction(better: Better) -> str:
    """The same in words; the empty string where neither way is better."""
    if better is None:
        return ""
    if isinstance(better, str):
        return f"{arrow(better)} {'lower' if better == 'low' else 'higher'} is better"
    return f"{arrow(better)} is best"
