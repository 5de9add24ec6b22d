"""A paper's tables in its own layout: our rows with their doubt, the published ones beside them, and what differs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmend.data import placeholder
from vlmend.evaluate.averages import average, find
from vlmend.evaluate.score import EvalResult
from vlmend.metrics.rates import rate_from_json
from vlmend.papers.paper import Column, Figure, Paper, Table
from vlmend.papers.run import Found
from vlmend.report import page
from vlmend.report.tables import NOTHING, arrow, counts, marks
from vlmend.store import Run
from vlmend.types import Mean, Measured, Rate

UNITS = {"percent": "in percent", "fraction": "as fractions", "own": "on the scale of each measure"}


@dataclass(frozen=True)
class Row:
    """A model of ours with what was measured, or a published one with its figures; a column that it lacks is empty."""

    name: str
    measured: Mapping[Column, Measured]
    figures: Mapping[Column, Figure]


@dataclass(frozen=True)
class Laid:
    """A table with its rows, ours first; `not_run` has by column why there is no number of ours."""

    table: Table
    rows: tuple[Row, ...]
    not_run: Mapping[Column, str]
    asked: Mapping[Column, str]

    @property
    def doubts(self) -> list[str]:
        """What is doubtful about published figures, in the order of their marks."""
        return list(dict.fromkeys(d for row in self.rows for figure in row.figures.values() for d in _doubts(figure)))

    def cell(self, row: Row, column: Column) -> list[str]:
        """The number, its interval, its counts; or a published number with its marks."""
        if figure := row.figures.get(column):
            known = self.doubts
            signs = "".join(f"[{known.index(doubt) + 1}]" for doubt in _doubts(figure))
            return [f"{figure.value:g} {signs}".strip()]
        found = row.measured.get(column)
        if found is None:
            return [NOTHING]
        sign = " ‡" if found.marked else ""
        span = f"{self.number(found.low)} to {self.number(found.high)}" if found.low is not None else ""
        return [self.number(found.value) + sign, *filter(None, (span and f"[{span}]", counts(found)))]

    def number(self, value: float | None) -> str:
        """A value of ours in the table's unit."""
        if value is None:
            return NOTHING
        return {"percent": f"{100 * value:.1f}", "fraction": f"{value:.3f}", "own": f"{value:.1f}"}[self.table.unit]

    @property
    def legend(self) -> list[str]:
        """What each column is, what differs from the published one, what was not run, and what is doubtful."""
        lines = [self.table.note] if self.table.note else []
        for column in self.table.columns:
            if column in self.not_run:
                lines.append(f"{column.title}: not run: {self.not_run[column]}")
            else:
                lines.append(f"{column.title}: {self.asked[column]}")
            if column.differs:
                lines.append(f"{column.title} differs: {column.differs}")
        lines += [f"[{i}] {doubt}" for i, doubt in enumerate(self.doubts, 1)]
        return lines + marks(rate for row in self.rows for rate in row.measured.values())


def head(column: Column) -> str:
    """Its name, and which way is better."""
    return f"{column.title} {arrow(column.better)}".strip()


def _doubts(figure: Figure) -> list[str]:
    second = [f"second-hand: {figure.source}"] if figure.second_hand else []
    return second + ([figure.note] if figure.note else [])


def lay(found: Found) -> list[Laid]:
    """All tables of the paper, with what was measured."""
    return [_laid(found.request.paper, table, found.results, found.left_out) for table in found.request.paper.tables]


def as_published(paper: Paper) -> list[Laid]:
    """The tables with the published rows alone, as nothing was run."""
    return [_laid(paper, table, {}, {}) for table in paper.tables]


def _laid(
    paper: Paper, table: Table, results: Mapping[str, Mapping[str, EvalResult]], left_out: Mapping[str, str]
) -> Laid:
    rows = [
        Row(
            label,
            {c: found for c in table.columns if (found := _found(c, by_ask)) is not None},
            {},
        )
        for label, by_ask in results.items()
    ]
    rows += [
        Row(f"published: {model}, {method}", {}, figures) for (model, method), figures in paper.rows(table).items()
    ]
    lacking = {c: "; ".join(dict.fromkeys(left_out[ask] for ask in c.asks if ask in left_out)) for c in table.columns}
    not_run = {c: c.why or lacking[c] for c in table.columns if c.why or lacking[c]}
    asked = {c: described(paper, c) for c in table.columns if c.asks}
    return Laid(table, tuple(rows), not_run, asked)


def described(paper: Paper, column: Column) -> str:
    """What a column is made of: metric, suite, attack and judges."""
    if column.average:
        return f"{column.average} over {', '.join(paper.asks[ask].suite for ask in column.of)}"
    ask = paper.asks[column.ask]
    more = "".join(f", attack {attack}" for attack in ask.attack) + "".join(f", judge {judge}" for judge in ask.judges)
    part = f", {column.category} alone" if column.category else ""
    return f"{'1 - ' * column.contrary}{column.metric} of {ask.suite}{more}{part}"


def _found(column: Column, by_ask: Mapping[str, EvalResult]) -> Measured | None:
    """What was measured for a column, if all that it needs was asked."""
    if not column.asks or not {*column.asks} <= {*by_ask}:
        return None
    if column.average:
        return _average(column.average, [by_ask[ask].run for ask in column.of])
    result = by_ask[column.ask]
    if not column.category:
        return measured(column, result.metrics[column.metric])
    row = result.run.metrics()["categories"].get(column.metric, {}).get(column.category)
    return measured(column, rate_from_json(row)) if row else None


def _average(name: str, runs: Sequence[Run]) -> Measured | None:
    """The average of these runs, which are of one model; None where a set has no number."""
    [found] = average(find(name), runs)
    low, high = found.interval or (None, None)
    parts = found.parts.values()
    n, unscored = (sum(getattr(part, count) for part in parts) for count in ("n", "unscored"))
    return Mean(found.value, n, unscored, low, high, additive=False) if found.value is not None else None


def measured(column: Column, rate: Measured) -> Measured:
    """What the paper counts: the rate, or its contrary."""
    if not column.contrary:
        return rate
    low, high = (None if edge is None else 1 - edge for edge in (rate.high, rate.low))
    if isinstance(rate, Rate):
        return replace(rate, k=rate.n - rate.k, low=low, high=high)
    return replace(rate, value=None if rate.value is None else 1 - rate.value, low=low, high=high)


def write(found: Found, laid: Sequence[Laid]) -> list[Path]:
    """The tables as Markdown, JSON, CSV and a page, in the folder of the runs."""
    out, paper = found.request.base.out, found.request.paper
    texts = {
        "tables.md": markdown(found, laid),
        "tables.json": json.dumps(as_json(found, laid), ensure_ascii=False, indent=1) + "\n",
        "tables.csv": as_csv(laid),
    }
    paths: list[Path] = []
    for name, text in texts.items():
        path = out / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    sections: list[page.Section] = [page.Banner(warning) for warning in warnings(found)]
    sections += [
        page.Grid(
            one.table.title,
            ("model", *(head(column) for column in one.table.columns)),
            tuple((row.name, *(" ".join(one.cell(row, c)) for c in one.table.columns)) for row in one.rows),
            " ".join(f"{line.rstrip('.')}." for line in one.legend),
        )
        for one in laid
    ]
    return [*paths, page.build(paper.title, sections, out / "tables.html", lead=lead(paper))]


def lead(paper: Paper) -> str:
    """What the reader is to know of all tables."""
    return (
        f"arXiv {paper.arxiv}. Rows of ours have a 95 % interval, k of n, and what could not be scored; rows called"
        " published have the paper's figures."
    )


def warnings(found: Found) -> list[str]:
    """What holds for all our numbers: stand-ins for pictures, or that a part of the questions was asked."""
    stood_in = max(
        (int(r.run.manifest().get("placeholders", 0)) for row in found.results.values() for r in row.values()),
        default=0,
    )
    limit = found.request.base.limit
    part = f"Of each suite at most {limit:,} examples were asked." if limit else ""
    return list(filter(None, (placeholder.warning(stood_in), part)))


def markdown(found: Found, laid: Sequence[Laid]) -> str:
    """All tables, each with its legend."""
    paper = found.request.paper
    told = [line for warning in warnings(found) for line in ("", f"**{warning}**")]
    return "\n".join([f"# {paper.title}", "", lead(paper), *told, *_markdown(laid)]) + "\n"


def overview(paper: Paper) -> str:
    """What the paper needs, what makes its rows, and its tables as they were published, in Markdown."""
    lines = ["| `--data` | what | layout | from |", "|---|---|---|---|"]
    lines += [_line([f"`{key}=DIR`", need.what, need.layout, need.get]) for key, need in paper.needs.items()]
    lines += ["", "| recipe | row |", "|---|---|"] if paper.recipes else []
    lines += [_line([f"`{recipe}`", row]) for recipe, row in paper.recipes.items()]
    return "\n".join([*lines, *_markdown(as_published(paper))]) + "\n"


def _markdown(laid: Sequence[Laid]) -> list[str]:
    lines: list[str] = []
    for one in laid:
        columns = one.table.columns
        lines += ["", f"## {one.table.title}", "", f"Numbers {UNITS[one.table.unit]}.", ""]
        lines.append(_line(["model", *map(head, columns)]))
        lines.append(_line(["---", *("---:" for _ in columns)]))
        lines += [_line([row.name, *(" ".join(one.cell(row, column)) for column in columns)]) for row in one.rows]
        lines += ["", *(f"- {line}" for line in one.legend)]
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def as_csv(laid: Sequence[Laid]) -> str:
    """One line for each cell of each table; numbers of ours between 0 and 1, published ones in their unit."""
    held = io.StringIO()
    fields: tuple[str, ...] = (
        "table",
        "row",
        "kind",
        "column",
        "value",
        "k",
        "n",
        "low",
        "high",
        "unscored",
        "unit",
        "note",
    )
    writer: csv.DictWriter[str] = csv.DictWriter(held, fields, lineterminator="\n")
    writer.writeheader()
    for one in laid:
        for row in one.rows:
            for column in one.table.columns:
                for cell in _cells(row, column):
                    about = {"table": one.table.title, "row": row.name, "column": column.title}
                    writer.writerow(about | {key: cell[key] for key in fields if key in cell})
    return held.getvalue()


def _cells(row: Row, column: Column) -> Iterator[dict[str, Any]]:
    if figure := row.figures.get(column):
        note = "; ".join(_doubts(figure))
        yield {"kind": "published", "value": figure.value, "unit": figure.unit, "note": note}
    if found := row.measured.get(column):
        unit = "" if isinstance(found, Rate) else found.measured_in
        yield {
            "kind": "ours", "value": found.value, **({"k": found.k} if isinstance(found, Rate) else {}), "n": found.n,
            "low": found.low, "high": found.high, "unscored": found.unscored, "unit": unit, "note": found.marked,
        }  # fmt: skip


def as_json(found: Found, laid: Sequence[Laid]) -> dict[str, Any]:
    """Everything as plain data: the runs, and every table with its columns and cells."""
    return {
        "paper": found.request.paper.name,
        "arxiv": found.request.paper.arxiv,
        "models": dict(found.request.models),
        "data": {key: str(path) for key, path in found.request.data.items()},
        "runs": {label: {key: str(r.run.folder) for key, r in row.items()} for label, row in found.results.items()},
        "left_out": dict(found.left_out),
        "warnings": warnings(found),
        "tables": [_table_json(one) for one in laid],
    }


def _table_json(one: Laid) -> dict[str, Any]:
    return {
        "title": one.table.title,
        "unit": one.table.unit,
        "columns": [{**column.model_dump(), "not_run": one.not_run.get(column, "")} for column in one.table.columns],
        "rows": [
            {
                "name": row.name,
                "cells": {c.title: cell for c in one.table.columns for cell in _cells(row, c)},
            }
            for row in one.rows
        ],
        "legend": one.legend,
    }
