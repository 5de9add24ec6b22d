"""MM-Vet: open questions that take several abilities at once, graded by a model, 0 to 1 (arXiv 2308.02490)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmend.metrics.outcomes import by_grade
from vlmend.metrics.rates import Applies, everything, rubric, scored
from vlmend.suites import with_options
from vlmend.types import Decoding, Example, Measure, Outcome, Record, Score

TAKES = {
    "rec": "recognition", "ocr": "reading", "know": "knowledge", "gen": "writing", "spat": "space", "math": "reckoning",
}  # fmt: skip


@dataclass(frozen=True)
class MmVetSuite:
    """`mmvet:DIR?judge_model=…`. score: mean grade of the answers, by how much of the reference they get right (rubric
    `correct`; the published one is GPT-4 with examples in its prompt, five times over). By what a question takes, too;
    one that takes several counts in each.
    """

    path: Path
    judge_model: str = ""
    images: Path | None = None
    questions: Path | None = None

    name = "mmvet"
    protocol = "default"
    judges = ()
    decoding = Decoding(max_new_tokens=512)

    @property
    def sources(self) -> Sequence[str]:
        """All questions."""
        return (with_options(f"mmvet:{self.path}", images=self.images, questions=self.questions),)

    @property
    def asks(self) -> Mapping[str, str]:
        """One rubric."""
        return {"agrees": rubric("correct", self.judge_model)}

    @property
    def metrics(self) -> Sequence[Measure]:
        """The grades."""
        grade = scored("agrees")
        return (
            Score("score", "grade of the answers", everything, grade),
            *(Score(f"score_{short}", f"grade, {told}", _takes(short), grade) for short, told in TAKES.items()),
        )

    def outcome(self, record: Record) -> Outcome:
        """All right, partly right or wrong."""
        return by_grade(record, "agrees")


plugin = MmVetSuite


def _takes(short: str) -> Applies:
    def applies(example: Example) -> bool:
        return short in example.meta.get("capabilities", "").split(",")

    return applies
