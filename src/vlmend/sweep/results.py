"""What came of a sweep: rates of each row under each condition, counted from the stored records, as table and JSON."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmend.errors import UsageError, nearest
from vlmend.evaluate.run import score_only
from vlmend.evaluate.score import EvalResult
from vlmend.metrics.rates import as_json
from vlmend.metrics.seeds import pooled
from vlmend.registry import suites
from vlmend.report import tables
from vlmend.sweep.front import split
from vlmend.sweep.grid import PLAIN, Cell, Condition
from vlmend.types import Measure, Measured

NOTE = "* no other row beats it in both safety and ability; front.png draws them."


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but what is pooled, and their measures by condition and name."""

    name: str
    cells: tuple[Cell, ...]
    planned: int
    measures: Mapping[str, tuple[Measure, ...]]
    found: Mapping[str, Mapping[str, Measured]]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "runs": [cell.name for cell in self.cells],
            "planned": self.planned,
            "conditions": {
                condition: {m.name: as_json(self.found[condition][m.name], m) for m in measures}
                for condition, measures in self.measures.items()
            },
        }


def measures(asked: Mapping[str, Condition]) -> dict[str, Measure]:
    """All measures of all conditions by name. One name is one question, whichever suite asks it."""
    return {m.name: m for condition in asked.values() for m in suites.from_spec(condition.suite).metrics}


def check(names: Iterable[str], known: Mapping[str, Measure], asked: Mapping[str, Condition]) -> dict[str, Measure]:
    """The measures of these names (`NAME`, or `CONDITION/NAME`). Raises UsageError for one that no suite has."""
    return {given: _measure(given, known, asked) for given in names}


def _measure(given: str, known: Mapping[str, Measure], asked: Mapping[str, Condition]) -> Measure:
    condition, name = split(given)
    if condition and condition not in asked:
        raise UsageError(f"no condition {condition!r}.{nearest(condition, asked)} There are {', '.join(asked)}")
    meant = {condition: asked[condition]} if condition else asked
    known = measures(meant) if condition else known
    if name not in known:
        told = ", ".join(dict.fromkeys(c.suite for c in meant.values()))
        raise UsageError(
            f"suite {told} has no metric {name!r}.{nearest(name, known)} It has {', '.join(known)};"
            " --safety, --utility and --metric choose of them"
        )
    return known[name]


def read(
    cells: Sequence[Cell], missing: Container[str], out: Path, asked: Mapping[str, Condition], pool: Sequence[str]
) -> list[Row]:
    """One row for all runs that differ only in the settings `pool`, without those that are `missing`."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.without(pool), []).append(cell)
    there = {name: [cell for cell in members if cell.name not in missing] for name, members in rows.items()}
    return [_row(name, found, len(rows[name]), out, asked) for name, found in there.items() if found]


def _row(name: str, cells: Sequence[Cell], planned: int, out: Path, asked: Mapping[str, Condition]) -> Row:
    measures: dict[str, tuple[Measure, ...]] = {}
    found: dict[str, dict[str, Measured]] = {}
    for condition in asked:
        scored = [score_only(out / cell.name / condition) for cell in cells]
        records = [each.run.records() for each in scored]
        measures[condition] = scored[0].measured
        found[condition] = {
            m.name: replace(pooled(records, m), marked=_marked(m.name, scored)) for m in scored[0].measured
        }
    return Row(name, tuple(cells), planned, measures, found)


def _marked(name: str, scored: Sequence[EvalResult]) -> str:
    """What is wrong with judges of a number, in any of the runs."""
    found = (each.metrics[name].marked for each in scored if name in each.metrics)
    return "; ".join(dict.fromkeys(filter(None, found)))


def table(rows: Sequence[Row], wanted: Sequence[str], best: Set[str]) -> tables.RateTable:
    """A line for each row, a column for each condition and metric; * marks the front."""
    lines: list[tuple[str, dict[tables.Column, Measured]]] = []
    for row in rows:
        mark = " *" if row.name in best else ""
        few = f" ({len(row.cells)} of {row.planned} runs)" if len(row.cells) < row.planned else ""
        lines.append((f"{row.name}{mark}{few}", dict(_columns(row, wanted))))
    columns = tuple(dict.fromkeys(column for _, rates in lines for column in rates))
    return tables.RateTable("", columns, tuple(tables.Row(name, rates) for name, rates in lines), NOTE)


def _columns(row: Row, wanted: Sequence[str]) -> Iterator[tuple[tables.Column, Measured]]:
    for condition, measures in row.measures.items():
        for m in measures:
            if not wanted or m.name in wanted or f"{condition}/{m.name}" in wanted:
                where = "" if condition == PLAIN else condition
                yield tables.Column(m.name, where, m.better, m.summary), row.found[condition][m.name]
