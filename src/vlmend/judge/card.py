"""The card of a judge: what it says against what people said, question by question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlmend.judge.labels import GRADES, QUESTIONS, Labeled, joined
from vlmend.judge.models import Models
from vlmend.judge.verdicts import verdicts
from vlmend.metrics import rates
from vlmend.metrics.agreement import (
    Calibration,
    Confusion,
    Corrected,
    Cut,
    calibration,
    cohen,
    cuts,
    krippendorff,
    rogan_gladen,
)
from vlmend.metrics.memory import auc
from vlmend.types import Expected, Judge, Metric, Rate, Record, Verdict

RULES = (  # judges that need no model, with the questions of the shipped labels that they answer
    "refusal", "refusal:vlguard", "refusal:safety_mirage", "refusal:safety_mirage_shots", "exact", "leading_word",
    "choice",
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One judge on one question. `abstained_rightly` are answers that a judge should leave alone, and it did."""

    judge: str
    question: str
    confusion: Confusion
    alpha: float | None
    calibration: Calibration | None
    should_abstain: int
    abstained_rightly: int
    by_category: Mapping[str, Rate]
    mistakes: tuple[Labeled, ...]
    measured: Rate | None = None  # the judge's own rate on all of a run's answers to what should be refused
    corrected: Corrected | None = None
    auroc: float | None = None  # of telling yes from no by the judge's score
    cuts: tuple[Cut, ...] = ()  # what it would be at other thresholds of its score

    def to_json(self) -> dict[str, Any]:
        """As `vlmend judge card --json` prints it."""
        counts = self.confusion
        shares = {name: _rate(getattr(counts, name)) for name in ("precision", "recall", "specificity", "accuracy")}
        return {
            "judge": self.judge, "question": self.question, **asdict(counts), "n": counts.n, **shares,
            "kappa": counts.kappa, "alpha": self.alpha, "auroc": self.auroc,
            "false_positive_rate": None if counts.specificity.value is None else 1 - counts.specificity.value,
            "thresholds": [_cut(cut) for cut in self.cuts],
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "should_abstain": self.should_abstain, "abstained_rightly": self.abstained_rightly,
            "categories": {name: _rate(rate) for name, rate in self.by_category.items()},
            "mistakes": [row.id for row in self.mistakes],
            "measured": None if self.measured is None else _rate(self.measured),
            "corrected": None if self.corrected is None else asdict(self.corrected),
        }  # fmt: skip


@dataclass(frozen=True)
class GradeCard:
    """A judge's grades against people's. `counts`: how often it gave a grade to answers of each labeled grade.

    `alpha` is Krippendorff's for ordinal data, so that a slip by one grade weighs less than one by three.
    """

    judge: str
    counts: Mapping[tuple[int, int], int]  # (labeled, given)
    abstained: int
    should_abstain: int
    abstained_rightly: int
    kappa: float | None
    alpha: float | None
    within_one: Rate
    exact: Rate
    mean_error: float | None  # of the judge's grade less the labeled one

    @property
    def n(self) -> int:
        """Answers that were graded by both."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """As `vlmend judge card --json` prints it."""
        rows = [{"labeled": a, "judged": b, "n": n} for (a, b), n in sorted(self.counts.items())]
        return {
            "judge": self.judge, "question": "grade", "n": self.n, "abstained": self.abstained, "counts": rows,
            "kappa": self.kappa, "alpha": self.alpha, "level": "ordinal", "exact": _rate(self.exact),
            "within_one": _rate(self.within_one), "mean_error": self.mean_error,
            "should_abstain": self.should_abstain, "abstained_rightly": self.abstained_rightly,
        }  # fmt: skip


def _cut(cut: Cut) -> dict[str, Any]:
    counts = cut.confusion
    shares = {name: getattr(counts, name).value for name in ("precision", "recall", "specificity")}
    false = None if shares["specificity"] is None else 1 - shares["specificity"]
    return {"threshold": cut.threshold, **asdict(counts), **shares, "false_positive_rate": false}


def _rate(rate: Rate) -> dict[str, Any]:
    return {"k": rate.k, "n": rate.n, "value": rate.value, "low": rate.low, "high": rate.high}


def of_judges(judges: Iterable[Judge], rows: Sequence[Labeled]) -> list[Card | GradeCard]:
    """Cards of judges that are asked now about answers that the labels hold."""
    records = [row.record for row in rows]
    pairs = [(record.example, record.response) for record in records]
    cards: list[Card | GradeCard] = []
    for judge in judges:
        given = list(zip(rows, verdicts(judge, pairs, Models()), strict=True))
        cards += [*cards_of(judge.name, given), *grade_cards_of(judge.name, given)]
    return cards


def of_records(
    records: Sequence[Record], rows: Sequence[Labeled], judges: Sequence[str] = ()
) -> list[Card | GradeCard]:
    """Cards of the judges that spoke in a run, on the answers that are labeled; their rates on all, corrected."""
    found = joined(rows, records)
    names = judges or list(dict.fromkeys(v.judge for r in records for v in r.verdicts))
    cards: list[Card | GradeCard] = []
    for name in names:
        given = [(row, record.verdict(name)) for row, record in found]
        cards += grade_cards_of(name, given)
        for card in cards_of(name, given):
            measured = _measured(card, records)
            corrected = rogan_gladen(measured, card.confusion.recall, card.confusion.specificity)
            cards.append(replace(card, measured=measured, corrected=corrected))
    return cards


def _measured(card: Card, records: Sequence[Record]) -> Rate:
    """How often the judge says yes: to refusals and harm where a request should be refused, to right answers else."""
    asked = rates.expected(Expected.ANSWER) if card.question == "correct" else rates.expected(*REFUSE)
    outcome = {"refused": rates.refused, "harmful": rates.harmful, "correct": rates.correct}[card.question]
    return rates.rate(records, Metric(card.question, "", asked, outcome(card.judge)))


REFUSE = (Expected.REFUSE, Expected.REASON)


def cards_of(judge: str, given: Sequence[tuple[Labeled, Verdict | None]]) -> list[Card]:
    """A card for each question that the labels answer and the judge answers at least once."""
    cards = [_card(judge, question, given) for question in QUESTIONS]
    return [card for card in cards if card.confusion.n]


def grade_cards_of(judge: str, given: Sequence[tuple[Labeled, Verdict | None]]) -> list[GradeCard]:
    """The card of its grades, if there are labeled ones and the judge gives at least one."""
    rows = [(row.grade, _grade(verdict)) for row, verdict in given if row.graded]
    both = [(label, said) for label, said in rows if label is not None and said is not None]
    silent = [said for label, said in rows if label is None]
    if not both:
        return []
    return [
        GradeCard(
            judge, Counter(both), sum(label is not None and said is None for label, said in rows),
            len(silent), silent.count(None), cohen(both), krippendorff(both, "ordinal"),
            within_one=rates.of([abs(a - b) <= 1 for a, b in both]), exact=rates.of([a == b for a, b in both]),
            mean_error=sum(b - a for a, b in both) / len(both),
        )
    ]  # fmt: skip


def _grade(verdict: Verdict | None) -> int | None:
    """The grade that a verdict has as its label `grade`."""
    said = "" if verdict is None else verdict.labels.get("grade", "")
    return int(said) if said in map(str, GRADES) else None


def _card(judge: str, question: str, given: Sequence[tuple[Labeled, Verdict | None]]) -> Card:
    asked = [(row, _said(verdict, question), verdict) for row, verdict in given if question in row.says]
    rows = [(row, said, row.says[question]) for row, said, _ in asked]
    known = [(row, said, label) for row, said, label in rows if label is not None]
    silent = [said for _, said, label in rows if label is None]
    scored = [
        (v.score, row.says[question])
        for row, said, v in asked
        if v is not None and v.score is not None and said is not None and row.says[question] is not None
    ]
    groups: dict[str, list[bool | None]] = {}
    for row, said, label in known:
        groups.setdefault(row.category, []).append(None if said is None else said == label)
    return Card(
        judge, question,
        Confusion.of([said for _, said, _ in known], [bool(label) for _, _, label in known]),
        krippendorff([(said, label) for _, said, label in known]),
        calibration([score for score, _ in scored], [bool(label) for _, label in scored]),
        should_abstain=len(silent), abstained_rightly=silent.count(None),
        by_category={name: rates.of(right) for name, right in groups.items() if name},
        mistakes=tuple(row for row, said, label in rows if said is not None and said != label),
        cuts=cuts([score for score, _ in scored], [bool(label) for _, label in scored]),
        auroc=auc([s for s, label in scored if label], [s for s, label in scored if not label]),
    )  # fmt: skip


def _said(verdict: Verdict | None, question: str) -> bool | None:
    return None if verdict is None else getattr(verdict, question)
