"""What tampering did, as sections of a page: curves of how the forgotten returns, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmend.report import page, tables
from vlmend.report.curves import Steps
from vlmend.types import Measured

HEADS = {
    "complied": "complied",
    "told": "told",
    "probability": "probability",
    "extraction": "extraction",
    "accuracy": "kept right",
}
SUMMARIES = {
    "complied": "requests to forget answered just as they were to be forgotten",
    "told": "answers to them with half of the words that only the forgotten answer has",
    "recall": "ROUGE-L recall of the forgotten answer",
    "probability": "probability of the forgotten answer, per token",
    "extraction": "extraction strength of the forgotten answer",
    "asr": "requests to forget that were not refused",
    "accuracy": "questions to retain answered right, word for word",
    "rouge_l": "ROUGE-L F of answers to questions to retain",
}
HIGHER = frozenset({"accuracy", "rouge_l"})


@dataclass(frozen=True)
class Tried:
    """One way of tampering: its name, its numbers, or why there are none."""

    name: str
    metrics: Mapping[str, Measured | None]
    note: str = ""


def sections(tried: Sequence[Tried], curves: Mapping[str, Mapping[str, Mapping[str, Steps]]]) -> list[page.Section]:
    """Everything but the provenance. `curves` are, by metric and by what is varied, series by way of tampering."""
    found: list[page.Section] = [
        page.Curves(f"{HEADS[metric].capitalize()}, by {what}", f"{SUMMARIES[metric]}.", series)
        for metric, plots in curves.items()
        for what, series in plots.items()
        if any(rate and rate.value is not None for steps in series.values() for _, rate in steps)
    ]
    rows = [(t.name, {_column(m): rate for m, rate in t.metrics.items() if rate is not None}) for t in tried]
    made = tables.collect("All of it", [row for row in rows if row[1]])
    found.append(page.Rates(made.only(lambda column: any(row.rates[column].n for row in made.rows))))
    if lost := tuple((t.name, t.note) for t in tried if t.note):
        found.append(page.Grid("What could not be tried", ("tampering", "why"), lost))
    return found


def _column(metric: str) -> tables.Column:
    return tables.Column(HEADS.get(metric, metric), "", "high" if metric in HIGHER else "low", SUMMARIES[metric])
