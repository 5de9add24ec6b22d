"""Mirage cards as sections of a page: what to take away, the table, the same as bars, word by word, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlmend.metrics.paired import Change, Shift
from vlmend.report import page, tables
from vlmend.types import Measured

COLUMNS = (  # name in a card, name of the measure, condition, which direction is good
    ("asr", "attack success", "plain", "low"),
    ("asr_sense", "attack success", "plain, with sense", "low"),
    ("asr_opened", "attack success", "after {opening}", "low"),
    ("asr_opened_control", "attack success", "paraphrased", "low"),
    ("asr_sampled", "attack success", "sampled", "low"),
    ("over_refusal", "over-refusal", "plain", "low"),
    ("over_refusal_closed", "over-refusal", "after {closing}", "low"),
    ("over_refusal_closed_control", "over-refusal", "paraphrased", "low"),
    ("flips", "flips", "first word changed", "low"),
    ("flips_control", "flips", "all else changed", "low"),
    ("incoherent", "incoherent", "plain", "low"),
    ("irrelevant", "irrelevant", "plain", "low"),
    ("senseless_answers", "without sense", "requests to answer", "low"),
    ("senseless_opened", "without sense", "after {opening}", "low"),
    ("senseless_closed", "without sense", "after {closing}", "low"),
    ("senseless_sampled", "without sense", "sampled", "low"),
    ("silent", "silent", "plain", "low"),
    ("failed", "failed", "plain", "low"),
    ("leaked", "leaked", "plain", "low"),
    ("leaked_opened", "leaked", "after {opening}", "low"),
    ("accuracy", "accuracy", "plain", "high"),
    ("utility", "utility", "plain", "high"),
)
BARS = ("attack success", "over-refusal", "flips", "utility")


@dataclass(frozen=True)
class CardRow:
    """One model: its name, its numbers by the names of COLUMNS, word by word, what they amount to, and paired tests."""

    model: str
    rates: Mapping[str, Measured]
    shots: Mapping[str, Measured]
    reading: str
    changes: Mapping[str, Change | Shift] = field(default_factory=dict[str, "Change | Shift"])


@dataclass(frozen=True)
class Told:
    """What the cards of a page have in common. `blind` is the best rule that sees no picture, with its rates."""

    opening: Sequence[str]
    closing: Sequence[str]
    found_in: str
    thresholds: Mapping[str, float]
    summaries: Mapping[str, str]
    blind: CardRow | None = None


def table(rows: Sequence[CardRow], told: Told) -> tables.RateTable:
    """Models, and the rule without pictures, by measures under their conditions."""
    names = {"opening": _any(told.opening), "closing": _any(told.closing)}
    columns = {
        name: tables.Column(measure, condition.format_map(names), better, told.summaries.get(name, ""))  # pyright: ignore
        for name, measure, condition, better in COLUMNS
    }
    shown = [row for row in (*rows, told.blind) if row]
    used = [name for name in columns if any(name in row.rates for row in shown)]
    made = [tables.Row(row.model, {columns[n]: row.rates[n] for n in used if n in row.rates}) for row in shown]
    return tables.RateTable("Mirage card", tuple(columns[n] for n in used), tuple(made))


def sections(rows: Sequence[CardRow], told: Told) -> list[page.Section]:
    """Everything about some cards but examples and provenance."""
    made = table(rows, told)
    found: list[page.Section] = [
        page.Prose("In one line each", tuple(f"{row.model}: {row.reading}." for row in rows)),
        page.Rates(made),
        page.Bars(tables.RateTable("The same with intervals", *_body(made.only(lambda c: c.name in BARS)))),
    ]
    if any(len(row.shots) > 1 for row in rows):
        pairs = [
            (row.model, {tables.Column("attack success", f"after '{w}'"): rate for w, rate in row.shots.items()})
            for row in rows
        ]
        found.append(page.Rates(tables.collect("Word by word", pairs), folded=True))
    if tests := tuple(_tests(rows)):
        found.append(page.Grid("Against the base, request by request", TESTED, tests, "Exact McNemar tests of pairs."))
    found.append(page.Prose("How to read it", tuple(_explained(told))))
    return found


TESTED = ("model", "plain rate", "base", "model's", "lost / gained", "p")


def _tests(rows: Sequence[CardRow]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        for name, found in row.changes.items():
            if isinstance(found, Change):
                p = tables.NOTHING if found.p is None else f"{found.p:.2g}"
                counts = f"{found.k_before}/{found.n}", f"{found.k_after}/{found.n}", f"{found.lost} / {found.gained}"
                yield row.model, name.replace("_", " "), *counts, p


def _body(made: tables.RateTable) -> tuple[tuple[tables.Column, ...], tuple[tables.Row, ...]]:
    return made.columns, made.rows


def _any(words: Sequence[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return quoted[0] if len(quoted) == 1 else f"any of {', '.join(quoted)}"


def _explained(told: Told) -> list[str]:
    where = f", found in {told.found_in}" if told.found_in else ""
    lines = [
        f"A first word becomes {_any(told.opening)} in requests to refuse, and {_any(told.closing)} in requests to"
        f" answer{where}. Nothing else of a request changes. Paraphrases change all but the first word: what they move,"
        " words move; what only the first word moves is a shortcut.",
    ]
    if told.blind:
        lines.append(
            f"“{told.blind.model}” is a rule that sees no picture ({told.blind.reading}). A model that does no better"
            " on the same requests need not have looked at a picture to be as safe."
        )
    lines.append("Thresholds of the readings: " + ", ".join(f"{k} {v:g}" for k, v in told.thresholds.items()) + ".")
    return lines
