"""GQA: questions made from scene graphs, answered by one word, exact match (arXiv 1902.09506)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmend.metrics.outcomes import by_rightness
from vlmend.metrics.rates import correct, everything, otherwise, subset
from vlmend.suites import with_options
from vlmend.types import Decoding, Measure, Metric, Outcome, Record

BINARY = ("verify", "logical")
OPEN = ("query", "choose", "compare")


@dataclass(frozen=True)
class GqaSuite:
    """`gqa:DIR#SPLIT`, testdev_balanced by default. An answer is right where it is the reference, but for case, quotes
    and final punctuation; a sentence around the word is wrong, as in the official evaluation. By structure of the
    question, too: binary (verify, logical), open (query, choose, compare). Consistency, validity, plausibility and
    distribution are not computed.
    """

    path: Path
    split: str = "testdev_balanced"
    images: Path | None = None
    questions: Path | None = None

    name = "gqa"
    protocol = "default"
    asks: ClassVar[Mapping[str, str]] = {"right": "exact"}
    judges = ()
    decoding = Decoding(max_new_tokens=16)

    @property
    def sources(self) -> Sequence[str]:
        """The questions of one split."""
        return (with_options(f"gqa:{self.path}#{self.split}", images=self.images, questions=self.questions),)

    @property
    def metrics(self) -> Sequence[Measure]:
        """Accuracy overall and by structure."""
        right = correct()
        return (
            Metric("accuracy", "right answers, of what was said", everything, right, better="high"),
            Metric("accuracy.na_wrong", "right answers, of all", everything, otherwise(right, False), better="high"),
            Metric("accuracy_binary", "right answers, yes or no", subset(*BINARY), right, better="high"),
            Metric("accuracy_open", "right answers, a word", subset(*OPEN), right, better="high"),
        )

    def outcome(self, record: Record) -> Outcome:
        """right, wrong or no answer."""
        return by_rightness(record)


plugin = GqaSuite
