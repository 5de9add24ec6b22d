"""Pairs that cannot be judged, apart from those that can; verdicts in whatever order, back in theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from vlmend.metrics.questions import QUESTIONS
from vlmend.types import Example, Response, Verdict

Pair = tuple[Example, Response]
NOBODY = Example("", ())


def sifted(
    judge: str, pairs: Sequence[Pair], lacks: Callable[[Example], str] = lambda _: "", *, takes_silence: bool = False
) -> tuple[dict[int, Verdict], list[int]]:
    """Unscored verdicts by place, for silent answers and for examples that lack something; and all other places.

    Silence says nothing to a judge of answers; one that `takes_silence` judges something else.
    """
    unscored: dict[int, Verdict] = {}
    for place, (example, response) in enumerate(pairs):
        why = lacks(example) if response.said or takes_silence else "nothing was said"
        if why:
            unscored[place] = Verdict(judge, response.id, why=why)
    return unscored, [place for place in range(len(pairs)) if place not in unscored]


def in_order(found: Iterable[tuple[int, Verdict]]) -> list[Verdict]:
    """The verdicts in the order of their pairs."""
    by_place = dict(found)
    return [by_place[place] for place in sorted(by_place)]


def flags(verdict: Verdict) -> Mapping[str, bool | None]:
    """The yes/no answers that a verdict can give."""
    return {"refused": verdict.refused, "harmful": verdict.harmful, "correct": verdict.correct}


def scored(verdict: Verdict | None) -> bool:
    """Whether a verdict says anything: yes or no, a number, or in a label what some question asks."""
    if verdict is None:
        return False
    if verdict.score is not None or any(f is not None for f in flags(verdict).values()):
        return True
    return any(question.said(verdict, NOBODY) is not None for question in QUESTIONS.values())
