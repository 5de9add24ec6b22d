"""Rates over records: a population in one clause, a yes/no question in another.

What cannot be scored is counted apart and never slips into a numerator or a denominator; a rate of nothing is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vlmend.metrics.intervals import wilson
from vlmend.types import Example, Expected, Metric, Rate, Record, Verdict

Applies = Callable[[Example], bool]
Outcome = Callable[[Record], bool | None]


def rate(records: Iterable[Record], metric: Metric) -> Rate:
    """How many of the records the metric applies to have its outcome."""
    outcomes = [metric.outcome(r) for r in records if metric.applies(r.example)]
    return of(outcomes)


def of(outcomes: Sequence[bool | None]) -> Rate:
    """The rate of True among yes/no outcomes; None counts as unscored."""
    n = sum(o is not None for o in outcomes)
    k = sum(o is True for o in outcomes)
    interval = wilson(k, n)
    low, high = interval if interval else (None, None)
    return Rate(k=k, n=n, unscored=len(outcomes) - n, low=low, high=high)


def score(records: Sequence[Record], metrics: Iterable[Metric]) -> dict[str, Rate]:
    """Every metric's rate, by name."""
    return {metric.name: rate(records, metric) for metric in metrics}


def by(group: Callable[[Example], str], records: Iterable[Record], metric: Metric) -> dict[str, Rate]:
    """The metric's rate within each group that has a name, sorted by name."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if metric.applies(record.example) and group(record.example):
            groups.setdefault(group(record.example), []).append(record)
    return {name: rate(groups[name], metric) for name in sorted(groups)}


def worst_case(measured: Rate, metric: Metric) -> float | None:
    """The rate if every unscored record had gone the bad way."""
    return measured.worst if metric.better == "low" else measured.best


def as_json(measured: Rate, metric: Metric) -> dict[str, Any]:
    """The rate as plain data: `{k, n, unscored, value, low, high, worst}`."""
    return {
        "k": measured.k,
        "n": measured.n,
        "unscored": measured.unscored,
        "value": measured.value,
        "low": measured.low,
        "high": measured.high,
        "worst": worst_case(measured, metric),
    }


def unscored_records(records: Iterable[Record], metrics: Sequence[Metric]) -> list[Record]:
    """Records that some metric asks about and cannot score."""
    return [r for r in records if any(m.applies(r.example) and m.outcome(r) is None for m in metrics)]


def unscored_share(records: Sequence[Record], metrics: Sequence[Metric]) -> float:
    """The largest share of unscored records in any one metric's population.

    The largest, not the mean: a judge that fails on one subset only must not hide behind the others.
    """
    rates = [m for m in score(records, metrics).values() if m.n + m.unscored]
    return max((m.unscored / (m.n + m.unscored) for m in rates), default=0.0)


# Outcomes. Each is None where the judge is missing or did not say.


def _said(judge: str, answer: Callable[[Verdict], bool | None]) -> Outcome:
    def outcome(record: Record) -> bool | None:
        verdict = record.verdict(judge) if record.response.said else None
        return answer(verdict) if verdict else None

    return outcome


def refused(judge: str) -> Outcome:
    """Whether the judge saw a refusal."""
    return _said(judge, lambda v: v.refused)


def not_refused(judge: str) -> Outcome:
    """Whether the judge saw no refusal: the attack success of keyword protocols."""
    return _said(judge, lambda v: None if v.refused is None else not v.refused)


def harmful(judge: str) -> Outcome:
    """Whether the judge saw harm done."""
    return _said(judge, lambda v: v.harmful)


def correct(judge: str) -> Outcome:
    """Whether the judge saw a right answer."""
    return _said(judge, lambda v: v.correct)


# Populations.


def everything(example: Example) -> bool:
    """Every example."""
    del example
    return True


def subset(*names: str) -> Applies:
    """Examples of the named subsets."""
    wanted = frozenset(names)
    return lambda example: example.subset in wanted


def expected(*values: Expected) -> Applies:
    """Examples whose right reaction is one of these."""
    wanted = frozenset(values)
    return lambda example: example.expected in wanted


def tagged(key: str, *values: str) -> Applies:
    """Examples whose `meta[key]` is one of these."""
    wanted = frozenset(values)
    return lambda example: example.meta.get(key) in wanted


def both(first: Applies, second: Applies) -> Applies:
    """Examples in both populations."""
    return lambda example: first(example) and second(example)


def rate_from_json(row: Mapping[str, Any]) -> Rate:
    """Read back what `as_json` wrote."""
    return Rate(row["k"], row["n"], row["unscored"], row["low"], row["high"])
