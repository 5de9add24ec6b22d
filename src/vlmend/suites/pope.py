"""POPE: objects that are not there, by yes and no: accuracy, precision, recall, F1, share of yes (arXiv 2305.10355)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vlmend.metrics.outcomes import by_rightness
from vlmend.metrics.rates import correct, everything, otherwise
from vlmend.types import Decoding, Example, Measure, Metric, Outcome, Record, Statistic


@dataclass(frozen=True)
class PopeSuite:
    """`pope:DIR#SPLIT`: one of adversarial, popular, random. Answers that open with neither yes nor no are unscored;
    accuracy.na_wrong counts them as wrong. hallucination: things that are not there, seen all the same."""

    path: Path
    split: str = "adversarial"
    dataset: str = "coco"

    name = "pope"
    protocol = "default"
    asks: ClassVar[Mapping[str, str]] = {"right": "leading_word"}
    judges = ()
    decoding = Decoding(max_new_tokens=16)

    @property
    def sources(self) -> Sequence[str]:
        """The questions of one split."""
        return (f"pope:{self.path}#{self.split}?dataset={self.dataset}",)

    @property
    def metrics(self) -> Sequence[Measure]:
        """What the paper reports, and what could not be read."""
        right = correct()
        return (
            Metric("accuracy", "right answers, of those that say yes or no", everything, right, better="high"),
            Metric("accuracy.na_wrong", "right answers, of all", everything, otherwise(right, False), better="high"),
            Metric("recall", "things that are there, seen", _labeled("yes"), right, better="high"),
            Metric("hallucination", "things that are not there, seen", _labeled("no"), _not(right)),
            Statistic("precision", "of what is seen, how much is there", everything, _row, _precision, contrary=_other),
            Statistic("f1", "harmonic mean of precision and recall", everything, _row, _f1, contrary=_other),
            Metric("yes", "answers that say yes; half of them should", everything, _yes, better=0.5),
        )

    def outcome(self, record: Record) -> Outcome:
        """right, wrong or no answer."""
        return by_rightness(record)


plugin = PopeSuite


def _labeled(label: str) -> Any:
    def applies(example: Example) -> bool:
        return example.answers[0] == label

    return applies


def _not(outcome: Any) -> Any:
    def negated(record: Record) -> bool | None:
        found: bool | None = outcome(record)
        return None if found is None else not found

    return negated


def _row(record: Record) -> tuple[bool, bool] | None:
    """Whether yes was said, and whether it should have been."""
    right = correct()(record)
    there = record.example.answers[0] == "yes"
    return None if right is None else (there if right else not there, there)


def _other(row: tuple[bool, bool]) -> tuple[bool, bool]:
    """The row, had the other word been said."""
    yes, there = row
    return not yes, there


def _yes(record: Record) -> bool | None:
    row = _row(record)
    return row[0] if row else None


def _precision(rows: Sequence[Any]) -> float | None:
    said = sum(yes for yes, _ in rows)
    return sum(yes and there for yes, there in rows) / said if said else None


def _f1(rows: Sequence[Any]) -> float | None:
    both = sum(yes for yes, _ in rows) + sum(there for _, there in rows)
    return 2 * sum(yes and there for yes, there in rows) / both if both else None
