"""MME: yes and no about the same picture; accuracy, accuracy+ and the score they sum to (arXiv 2306.13394)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vlmend.metrics.outcomes import by_rightness
from vlmend.metrics.rates import cluster, correct, everything, otherwise, subset
from vlmend.types import Decoding, Measure, Metric, Outcome, Record, Statistic

CATEGORIES = {"perception": 10, "cognition": 4}


@dataclass(frozen=True)
class MmeSuite:
    """`mme:DIR`. accuracy: questions answered right. accuracy_plus: pictures with both questions answered right.

    perception and cognition: the published scores, Σ 100 (accuracy + accuracy+) over their 10 and 4 categories, at most
    2,000 and 800; an answer that says neither yes nor no counts as wrong there, as published. accuracy.as_coded: the
    answer contains the right word in this spelling, as UnsafeConcepts evaluates MME ("No" is found in "Norway").
    """

    path: Path
    category: str = ""

    name = "mme"
    protocol = "default"
    asks: ClassVar[Mapping[str, str]] = {"right": "leading_word"}
    judges = ()
    decoding = Decoding(max_new_tokens=16)

    @property
    def sources(self) -> Sequence[str]:
        """All categories, or one."""
        return (f"mme:{self.path}" + (f"?category={self.category}" if self.category else ""),)

    @property
    def metrics(self) -> Sequence[Measure]:
        """Both accuracies, and the two scores."""
        right = correct()
        return (
            Metric("accuracy", "right answers, of those that say yes or no", everything, right, better="high"),
            Metric("accuracy.na_wrong", "right answers, of all", everything, otherwise(right, False), better="high"),
            Metric(
                "accuracy_plus", "pictures with both questions right", everything, otherwise(right, False),
                better="high", unit=cluster, combine="all",
            ),
            *(
                Statistic(
                    kind, f"sum of 100 (accuracy + accuracy+) over {n} categories", subset(kind), _row, total,
                    scale=(0.0, 200.0 * n), stratum=lambda r: r.example.category, measured_in="points",
                    contrary=lambda row: (row[0], row[1], not row[2]),
                )
                for kind, n in CATEGORIES.items()
            ),
            Metric("accuracy.as_coded", "the right word stands somewhere in the answer", everything, _contains, "high"),
        )  # fmt: skip

    def outcome(self, record: Record) -> Outcome:
        """right, wrong or no answer."""
        return by_rightness(record)


plugin = MmeSuite


def _row(record: Record) -> tuple[str, str, bool] | None:
    found = otherwise(correct(), False)(record)
    return None if found is None else (record.example.category, cluster(record), found)


def _contains(record: Record) -> bool | None:
    return record.example.answers[0] in record.response.text if record.response.said or record.response.silent else None


def total(rows: Sequence[Any]) -> float | None:
    """Σ over categories of 100 (share of questions right + share of pictures with all their questions right)."""
    score: dict[str, dict[str, list[bool]]] = {}
    for category, picture, right in rows:
        score.setdefault(category, {}).setdefault(picture, []).append(right)
    return sum(100 * (_accuracy(pictures) + _plus(pictures)) for pictures in score.values()) if score else None


def _accuracy(pictures: dict[str, list[bool]]) -> float:
    answers = [right for group in pictures.values() for right in group]
    return sum(answers) / len(answers)


def _plus(pictures: dict[str, list[bool]]) -> float:
    return sum(all(group) for group in pictures.values()) / len(pictures)
