"""ScienceQA: school questions with lettered choices, with and without pictures (arXiv 2209.09513)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vlmend.metrics.outcomes import by_rightness
from vlmend.metrics.rates import correct, everything, otherwise, subset
from vlmend.types import Decoding, Measure, Metric, Outcome, Record

KINDS = {"image": "with a picture", "text": "with a hint in words only", "none": "with neither"}


@dataclass(frozen=True)
class ScienceQASuite:
    """`scienceqa:DIR#SPLIT`. Answers that pick no one option are unscored; accuracy.na_wrong counts them as wrong,
    which is how accuracy is mostly published. Subjects are in the table of categories."""

    path: Path
    split: str = "test"
    pictures: Literal["any", "with", "without"] = "any"

    name = "scienceqa"
    protocol = "default"
    asks: ClassVar[Mapping[str, str]] = {"right": "choice"}
    judges = ()
    decoding = Decoding(max_new_tokens=64)

    @property
    def sources(self) -> Sequence[str]:
        """The problems of one split."""
        return (f"scienceqa:{self.path}#{self.split}?pictures={self.pictures}",)

    @property
    def metrics(self) -> Sequence[Measure]:
        """Accuracy overall and by what comes with the question."""
        right = correct()
        return (
            Metric("accuracy", "right options, of answers that pick one", everything, right, better="high"),
            Metric("accuracy.na_wrong", "right options, of all", everything, otherwise(right, False), better="high"),
            *(
                Metric(f"accuracy_{kind}", f"right options, questions {told}", subset(kind), right, better="high")
                for kind, told in KINDS.items()
            ),
        )

    def outcome(self, record: Record) -> Outcome:
        """right, wrong or no answer."""
        return by_rightness(record)


plugin = ScienceQASuite
