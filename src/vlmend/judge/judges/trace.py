"""What another judge says of the reasoning before an answer: `trace:(guard:…)` reads the thoughts, not what is said.

An answer without reasoning has none that could do harm or decline, and is judged so without asking anybody; the label
`trace` tells it from one whose thoughts were read. Reasoning that was cut off before an answer is unscored, as is
everything about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

from vlmend.errors import ConfigError
from vlmend.judge.models import Models
from vlmend.judge.naming import asks_model, composition
from vlmend.judge.sifting import Pair, sifted
from vlmend.metrics.questions import QUESTIONS
from vlmend.registry import judges
from vlmend.types import Example, Judge, Response, Verdict

ABOUT = {"refused": "trace_refused", "harmful": "trace_harmful"}  # what is asked of an answer, and of its reasoning
SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Trace:
    """Settings: the judge, and whether it is given all of the reasoning or its last sentence (`end`), which decides."""

    spec: str
    part: Literal["whole", "end"] = "whole"

    takes_spec: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.answers:
            known = ", ".join(self._judge.answers) or "nothing"
            raise ConfigError(f"judge 'trace' needs one that says {' or '.join(ABOUT)}; {self.spec} says {known}")

    @cached_property
    def _judge(self) -> Judge:
        return judges.from_spec(self.spec)

    @property
    def inner(self) -> tuple[Judge, ...]:
        """The judge."""
        return (self._judge,)

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return f"trace:({self._judge.name})" + ("?part=end" if self.part == "end" else "")

    @property
    def answers(self) -> tuple[str, ...]:
        """Of the two questions about reasoning, those that the judge answers about an answer."""
        return tuple(of for question, of in ABOUT.items() if question in self._judge.answers)

    @property
    def asks_model(self) -> bool:
        """Whether the judge asks one."""
        return asks_model(self._judge)

    def about(self, models: Models) -> Mapping[str, str]:
        """Which part is read, and what the judge is made of."""
        return {"version": f"trace.{self.part}/1", "judge": composition(self.inner, models)}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        found, open_ = sifted(self.name, pairs)
        labels = self.about(models)
        bare = [place for place in open_ if not pairs[place][1].reasoning.strip()]
        thought = [place for place in open_ if pairs[place][1].reasoning.strip()]
        for place in bare:
            told = {**labels, "trace": "none", **dict.fromkeys(self.answers, "no")}
            found[place] = Verdict(self.name, pairs[place][1].id, labels=told)
        if thought:
            read = [(pairs[place][0], self._as_answer(pairs[place][1])) for place in thought]
            for place, verdict in zip(thought, self._judge(read, models), strict=True):
                found[place] = self._of_trace(pairs[place][0], verdict, labels)
        return [found[place] for place in range(len(pairs))]

    def _as_answer(self, response: Response) -> Response:
        text = response.reasoning.strip()
        return replace(response, text=SENTENCE.split(text)[-1] if self.part == "end" else text, reasoning="")

    def _of_trace(self, example: Example, verdict: Verdict, labels: Mapping[str, str]) -> Verdict:
        said = {of: QUESTIONS[question].said(verdict, example) for question, of in ABOUT.items() if of in self.answers}
        told = {of: "yes" if yes else "no" for of, yes in said.items() if yes is not None}
        why = "" if told else verdict.why or "the judge does not say"
        return Verdict(self.name, verdict.response_id, labels={**labels, "trace": "read", **told}, why=why)


plugin = Trace
