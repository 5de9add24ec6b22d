"""LLaVA-Bench (in the wild): open answers, graded by a model beside GPT-4's (arXiv 2304.08485)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmend.metrics.questions import says
from vlmend.metrics.rates import everything, rubric, scored, subset
from vlmend.types import UNSCORED, Decoding, Measure, Outcome, Record, Score, Statistic

KINDS = {"conv": "conversation", "detail": "description", "complex": "reasoning"}
GRADES = 10


@dataclass(frozen=True)
class LlavaBenchSuite:
    """`llava_bench:PATH?judge_model=…`: a judge that sees the picture grades the answer and the reference, 1 to 10.

    ratio: sum of the answers' grades over sum of the references', as published (by another prompt, text alone, order
    fixed). helpful: mean grade of the answers over 10, overall and by kind of question. Other judges may be bound to
    `helpful`; the ratio is of those that grade both.
    """

    path: Path
    judge_model: str = ""

    name = "llava_bench"
    protocol = "default"
    judges = ()
    decoding = Decoding(max_new_tokens=512)

    @property
    def sources(self) -> Sequence[str]:
        """All questions."""
        return (f"llava_bench:{self.path}",)

    @property
    def asks(self) -> Mapping[str, str]:
        """One rubric."""
        return {"helpful": rubric("beside", self.judge_model)}

    @property
    def metrics(self) -> Sequence[Measure]:
        """The ratio, and the grades."""
        grade = scored("helpful")
        return (
            Statistic(
                "ratio", "grades of answers over grades of references", everything, _grades, ratio,
                better="high", scale=(1 / GRADES, float(GRADES)),
            ),
            Score("helpful", "grade of the answers", everything, grade),
            *(Score(f"helpful_{kind}", f"grade, {told}", subset(kind), grade) for kind, told in KINDS.items()),
        )  # fmt: skip

    def outcome(self, record: Record) -> Outcome:
        """As good as the reference, or not."""
        row = _grades(record)
        return UNSCORED if row is None else Outcome("good", "good") if row[0] >= row[1] else Outcome("worse", "bad")


plugin = LlavaBenchSuite


def _grades(record: Record) -> tuple[float, float] | None:
    """Of answer and reference, by the judge that is bound to `helpful`; None where it does not grade both."""
    judge = record.judges.get("helpful", "")
    verdict = record.verdict(judge) if judge else None
    given: Any = says(record, "helpful")
    try:
        return None if verdict is None or given is None else (given, int(verdict.labels["reference"]) / GRADES)
    except (KeyError, ValueError):
        return None


def ratio(rows: Sequence[Any]) -> float | None:
    """Σ grades of answers / Σ grades of references."""
    below = sum(reference for _, reference in rows)
    return sum(given for given, _ in rows) / below if below else None
