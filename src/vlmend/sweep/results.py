"""What came of a sweep: rates of each row under each condition, counted from the stored records, as table and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmend.errors import UsageError, nearest
from vlmend.evaluate.run import score_only
from vlmend.metrics.rates import as_json
from vlmend.metrics.seeds import pooled
from vlmend.registry import suites
from vlmend.report.tables import counts, interval, value
from vlmend.sweep.grid import PLAIN, Cell, Condition
from vlmend.types import Measure, Measured


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but what is pooled, and their measures by condition and name."""

    name: str
    cells: tuple[Cell, ...]
    measures: Mapping[str, tuple[Measure, ...]]
    found: Mapping[str, Mapping[str, Measured]]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "runs": [cell.name for cell in self.cells],
            "conditions": {
                condition: {m.name: as_json(self.found[condition][m.name], m) for m in measures}
                for condition, measures in self.measures.items()
            },
        }


def measures(asked: Mapping[str, Condition]) -> dict[str, Measure]:
    """All measures of all conditions by name. One name is one question, whichever suite asks it."""
    return {m.name: m for condition in asked.values() for m in suites.from_spec(condition.suite).metrics}


def check(names: Iterable[str], known: Mapping[str, Measure], asked: Mapping[str, Condition]) -> None:
    """Raise UsageError for a name (or `CONDITION/name`) that no suite has."""
    for given in names:
        condition, slash, name = given.rpartition("/")
        if slash and condition not in asked:
            raise UsageError(f"no condition {condition!r}.{nearest(condition, asked)} There are {', '.join(asked)}")
        if name not in known:
            told = ", ".join(dict.fromkeys(c.suite for c in asked.values()))
            raise UsageError(f"suite {told} has no metric {name!r}.{nearest(name, known)} It has {', '.join(known)}")


def read(cells: Sequence[Cell], out: Path, asked: Mapping[str, Condition], pool: Sequence[str]) -> list[Row]:
    """One row for all runs that differ only in the settings `pool`, in the order of the cells."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.without(pool), []).append(cell)
    return [_row(name, members, out, asked) for name, members in rows.items()]


def _row(name: str, cells: Sequence[Cell], out: Path, asked: Mapping[str, Condition]) -> Row:
    measures: dict[str, tuple[Measure, ...]] = {}
    found: dict[str, dict[str, Measured]] = {}
    for condition in asked:
        scored = [score_only(out / cell.name / condition) for cell in cells]
        records = [each.run.records() for each in scored]
        measures[condition] = scored[0].measured
        found[condition] = {m.name: pooled(records, m) for m in scored[0].measured}
    return Row(name, tuple(cells), measures, found)


def table(rows: Sequence[Row], wanted: Sequence[str], best: Set[str]) -> str:
    """Markdown: one line for each row, one column for each condition and metric that it has; * marks the front."""
    columns = [
        (condition, name)
        for condition, rates in (rows[0].found if rows else {}).items()
        for name in rates
        if not wanted or name in wanted or f"{condition}/{name}" in wanted
    ]
    lines = [
        f"| run | {' | '.join(m if c == PLAIN else f'{m}, {c}' for c, m in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for row in rows:
        shown = " | ".join(_shown(row.found[c].get(m)) for c, m in columns)
        lines.append(f"| {row.name}{' *' if row.name in best else ''} | {shown} |")
    return "\n".join(lines)


def _shown(rate: Measured | None) -> str:
    """`1.5 % [0.3 to 5.0] 1/66`, and what could not be scored."""
    if rate is None or rate.value is None:
        return value(rate) + (f" ({rate.unscored} unscored)" if rate and rate.unscored else "")
    return f"{value(rate)} [{interval(rate)}] {counts(rate)}"
