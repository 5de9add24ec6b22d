"""Who answers which question of a suite: its own judges, and those that the user names instead or beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vlmend.errors import UsageError
from vlmend.judge.models import Models
from vlmend.judge.verdicts import from_specs
from vlmend.metrics.questions import QUESTIONS, find
from vlmend.metrics.views import UNASKED
from vlmend.registry import judges as registry
from vlmend.types import Judge, Suite

_FOR = re.compile(r"([\w\s-]*)=(.*)", re.DOTALL)  # the = of an option has a ? somewhere before it


@dataclass(frozen=True)
class Binding:
    """The judges of a run by name, and the names of those of each question, first the one that decides.

    `allowed` may judge though they are the model under test or its reward.
    """

    judges: Mapping[str, Judge]
    asks: Mapping[str, tuple[str, ...]]
    allowed: frozenset[str] = frozenset()

    def only(self, judges: Iterable[Judge]) -> Binding:
        """The same with these judges alone at work."""
        return replace(self, judges={judge.name: judge for judge in judges})


def named(text: str) -> tuple[str, str]:
    """`QUESTION=SPEC` or `SPEC`: the question, empty where none is named, and the spec.

    Raises UnknownName, and UsageError where one of both is lacking.
    """
    found = _FOR.fullmatch(text)
    question, spec = (found[1].strip(), found[2].strip()) if found else ("", text.strip())
    if found and not (question and spec):
        lacking = "judge" if question else "question"
        raise UsageError(f"--judge {text!r} names no {lacking}; the form is QUESTION=SPEC, or SPEC alone")
    if question:
        return find(question.replace("-", "_")).name, spec
    if spec in QUESTIONS and spec not in registry.names():
        raise UsageError(f"{spec!r} is a question; --judge {spec}=SPEC says who answers it")
    return "", spec


def refuse_rewards(given: Sequence[str], models: Models) -> None:
    """Raise UsageError for a judge that was the reward of the model under test, before one is loaded that may be."""
    judges, allowed = from_specs(spec for _, spec in map(named, given))
    for judge in judges:
        replace(models, allowed=allowed).for_judge(judge.name)


def bind(
    suite: Suite, given: Sequence[str] = (), before: Mapping[str, Sequence[str]] | None = None, *, keep: bool = False
) -> Binding:
    """Bind judges to the questions of a suite; only a classifier is loaded, whose labels say what it answers.

    `QUESTION=SPEC` puts a judge in the place of the suite's own; a second one for the same question is heard beside it.
    `SPEC` alone is heard beside the others on all that it answers. `before` are those that a stored run has by now:
    they stay behind the others and are not put to work again; with `keep`, they are, and decide where nothing else is
    given. Raises UsageError for a judge that does not answer its question.
    """
    judges: dict[str, Judge] = {}
    allowed: set[str] = set()
    asks: dict[str, list[str]] = {}

    def seat(spec: str) -> Judge:
        [judge], by_name = from_specs([spec])
        allowed.update(by_name)
        return judges.setdefault(judge.name, judge)

    chosen = [(question, seat(spec)) for question, spec in map(named, given)]
    for question, judge in chosen:
        if question:
            asks.setdefault(question, []).append(_fit(judge, question).name)
    for question, spec in suite.asks.items():
        if question not in asks and not (keep and (before or {}).get(question)):
            asks[question] = [seat(spec).name]
    for question, names in (before or {}).items():
        asks.setdefault(question, []).extend(seat(name).name if keep else name for name in names)
    for spec in suite.judges:
        seat(spec)
    for answered, name in [(q, judge.name) for question, judge in chosen if not question for q in _all_of(judge)]:
        asks.setdefault(answered, []).append(name)
    each_once = {question: tuple(dict.fromkeys(names)) for question, names in asks.items()}
    order = dict.fromkeys([name for names in each_once.values() for name in names if name in judges] + list(judges))
    return Binding({name: judges[name] for name in order}, each_once, frozenset(allowed))


def _fit(judge: Judge, question: str) -> Judge:
    """The judge, if it answers the question."""
    if question in judge.answers:
        return judge
    told = ", ".join(_all_of(judge)).strip() or "no question"
    raise UsageError(f"judge {judge.name} does not answer {question!r}; it answers {told}")


def _all_of(judge: Judge) -> list[str]:
    """What a judge answers, in the order of the table."""
    return [question for question in QUESTIONS if question in judge.answers] or [UNASKED]
