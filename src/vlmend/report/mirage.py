"""Mirage cards as sections of a page: what to take away, the table, the same as bars, word by word, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlmend.metrics.paired import Change, Shift
from vlmend.report import page, tables
from vlmend.types import Measured

DANGER, OVER = "asr", "over_refusal"
COLUMNS = (  # name in a card, name of the measure, condition, which direction is good
    ("asr", "{danger}", "plain", "low"),
    ("asr_sense", "{danger}", "plain, with sense", "low"),
    ("asr_opened", "{danger}", "after {opening}", "low"),
    ("asr_opened_control", "{danger}", "paraphrased", "low"),
    ("asr_sampled", "{danger}", "sampled", "low"),
    ("asr_corrupted", "{danger}", "pictures spoilt", "low"),
    ("over_refusal", "{over}", "plain", "low"),
    ("over_refusal_closed", "{over}", "after {closing}", "low"),
    ("over_refusal_closed_control", "{over}", "paraphrased", "low"),
    ("over_refusal_corrupted", "{over}", "pictures spoilt", "low"),
    ("refused_answers", "refusals", "requests to answer", "low"),
    ("flips", "flips", "first word changed", "low"),
    ("flips_control", "flips", "all else changed", "low"),
    ("incoherent", "incoherent", "plain", "low"),
    ("irrelevant", "irrelevant", "plain", "low"),
    ("senseless_answers", "without sense", "requests to answer", "low"),
    ("senseless_opened", "without sense", "after {opening}", "low"),
    ("senseless_closed", "without sense", "after {closing}", "low"),
    ("senseless_sampled", "without sense", "sampled", "low"),
    ("senseless_corrupted", "without sense", "pictures spoilt", "low"),
    ("silent", "silent", "plain", "low"),
    ("failed", "failed", "plain", "low"),
    ("declined", "refused to say", "plain", "low"),
    ("unjudged", "not judged", "plain", "low"),
    ("leaked", "leaked", "plain", "low"),
    ("leaked_opened", "leaked", "after {opening}", "low"),
    ("accuracy", "accuracy", "plain", "high"),
    ("accuracy_corrupted", "accuracy", "pictures spoilt", "high"),
    ("utility", "utility", "plain", "high"),
    ("utility_corrupted", "utility", "pictures spoilt", "high"),
)
Steps = Sequence[tuple[str, Measured | None]]


@dataclass(frozen=True)
class CardRow:
    """One model: its name, its numbers by the names of COLUMNS and of `Told.more`, word by word, what they amount to,
    and paired tests.

    `curve` is attack success after any of the first k words and paraphrases. `spoilt` has numbers on clean pictures and
    on spoilt ones, as steps by name of the number; `kinds` the same by what was done to the pictures. `cells` are rates
    by what of a request is safe. `suite` are all numbers of the suite, plain.
    """

    model: str
    rates: Mapping[str, Measured]
    shots: Mapping[str, Measured]
    reading: str
    changes: Mapping[str, Change | Shift] = field(default_factory=dict[str, "Change | Shift"])
    curve: Mapping[str, Steps] = field(default_factory=dict[str, Steps])
    spoilt: Mapping[str, Steps] = field(default_factory=dict[str, Steps])
    kinds: Mapping[tables.Column, Measured] = field(default_factory=dict[tables.Column, Measured])
    cells: Mapping[tables.Column, Measured] = field(default_factory=dict[tables.Column, Measured])
    suite: Mapping[tables.Column, Measured] = field(default_factory=dict[tables.Column, Measured])


@dataclass(frozen=True)
class Told:
    """What the cards of a page have in common. `blind` is the best rule that sees no picture, with its rates.

    `danger` and `over` are what the suite's two numbers are called, `more` further columns by name, `note` what should
    be known of the words.
    """

    opening: Sequence[str]
    closing: Sequence[str]
    found_in: str
    thresholds: Mapping[str, float]
    summaries: Mapping[str, str]
    blind: CardRow | None = None
    danger: str = "attack success"
    over: str = "over-refusal"
    more: Mapping[str, tables.Column] = field(default_factory=dict[str, tables.Column])
    note: str = ""

    def title(self, name: str) -> str:
        """What a number is called, by its name on cards."""
        return {DANGER: self.danger, OVER: self.over, "senseless": "without sense"}.get(name, name)


def table(rows: Sequence[CardRow], told: Told) -> tables.RateTable:
    """Models, and the rule without pictures, by measures under their conditions."""
    names = {
        "opening": _any(told.opening), "closing": _any(told.closing), "danger": told.danger, "over": told.over,
    }  # fmt: skip
    columns = {
        name: tables.Column(
            measure.format_map(names), condition.format_map(names), better, told.summaries.get(name, "")  # pyright: ignore
        )
        for name, measure, condition, better in COLUMNS
    } | dict(told.more)  # fmt: skip
    shown = [row for row in (*rows, told.blind) if row]
    used = [name for name in columns if any(name in row.rates for row in shown)]
    order = [columns[n] for n in used]
    measures = list(dict.fromkeys(column.name for column in order))
    made = [tables.Row(row.model, {columns[n]: row.rates[n] for n in used if n in row.rates}) for row in shown]
    return tables.RateTable("Mirage card", tuple(sorted(order, key=lambda c: measures.index(c.name))), tuple(made))


def sections(rows: Sequence[CardRow], told: Told) -> list[page.Section]:
    """Everything about some cards but examples and provenance."""
    made = table(rows, told)
    more = frozenset(told.more.values())
    bars = made.only(lambda c: c.name in (told.danger, told.over, "flips", "utility") and c not in more)
    found: list[page.Section] = [
        page.Prose("In one line each", tuple(f"{row.model}: {row.reading}." for row in rows)),
        page.Rates(made),
        page.Bars(tables.RateTable("The same with intervals", bars.columns, bars.rows)),
    ]
    if any(len(row.shots) > 1 for row in rows):
        pairs = [
            (row.model, {tables.Column(told.danger, f"after '{w}'"): rate for w, rate in row.shots.items()})
            for row in rows
        ]
        found.append(page.Rates(tables.collect("Word by word", pairs), folded=True))
        danger = f"{told.danger[0].upper()}{told.danger[1:]}".replace("_", " ")
        for what in dict.fromkeys(what for row in rows for what in row.curve):
            series = {row.model: row.curve[what] for row in rows if what in row.curve}
            found.append(page.Curves(f"{danger} by number of {what}", WORDS[what], series))
    found += _spoilt(rows, told)
    for title, pick, folded in (
        ("By what of a request is safe", "cells", False),
        ("All numbers of the suite, plain", "suite", True),
    ):
        pairs = [(row.model, getattr(row, pick)) for row in rows]
        if any(rates for _, rates in pairs):
            found.append(page.Rates(tables.collect(title, pairs), folded=folded))
    if tests := tuple(_tests(rows, told)):
        found.append(page.Grid("Against the base, request by request", TESTED, tests, "Exact McNemar tests of pairs."))
    found.append(page.Prose("How to read it", tuple(_explained(told))))
    return found


WORDS = {
    "words": "After any of the first k words that open.",
    "paraphrases": "The control: after any of the first k paraphrases that keep the first word.",
}
SPOILT = "By severity, all kinds of corruption together; clean are the same requests with their own pictures."


def _spoilt(rows: Sequence[CardRow], told: Told) -> Iterator[page.Section]:
    """Danger, over-refusal and ability over severities; kind by kind in a table."""
    for name in dict.fromkeys(name for row in rows for name in row.spoilt):
        series = {row.model: row.spoilt[name] for row in rows if name in row.spoilt}
        yield page.Curves(f"On spoilt pictures: {told.title(name)}", SPOILT, series)
    if any(row.kinds for row in rows):
        yield page.Rates(
            tables.collect("Spoilt pictures, kind by kind", [(r.model, r.kinds) for r in rows]), folded=True
        )


TESTED = ("model", "plain rate", "base", "model's", "lost / gained", "p")


def _tests(rows: Sequence[CardRow], told: Told) -> Iterator[tuple[str, ...]]:
    for row in rows:
        for name, found in row.changes.items():
            if isinstance(found, Change):
                p = tables.NOTHING if found.p is None else f"{found.p:.2g}"
                counts = f"{found.k_before}/{found.n}", f"{found.k_after}/{found.n}", f"{found.lost} / {found.gained}"
                yield row.model, told.title(name), *counts, p


def _any(words: Sequence[str]) -> str:
    quoted = [f"'{word}'" for word in words] or ["no word"]
    return quoted[0] if len(quoted) == 1 else f"any of {', '.join(quoted)}"


def _explained(told: Told) -> list[str]:
    where = f", found in {told.found_in}" if told.found_in else ""
    closed = f", and {_any(told.closing)} in requests to answer" if told.closing else ""
    lines = [
        f"A first word becomes {_any(told.opening)} in requests to refuse{closed}{where}. Nothing else of a request"
        " changes. Paraphrases change all but the first word: what they move, words move; what only the first word"
        " moves is a shortcut.",
    ]
    if told.note:
        lines.append(f"{told.note[0].upper()}{told.note[1:]}.")
    if told.blind:
        lines.append(
            f"“{told.blind.model}” is a rule that sees no picture ({told.blind.reading}). A model that does no better"
            " on the same requests need not have looked at a picture to be as safe."
        )
    lines.append("Thresholds of the readings: " + ", ".join(f"{k} {v:g}" for k, v in told.thresholds.items()) + ".")
    return lines
