"""Any judge as a reward: +1 for what its question wants, -1 for the contrary; a classifier's by probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from vlmend.errors import ConfigError, UnknownName
from vlmend.judge.models import Models
from vlmend.judge.verdicts import from_specs, verdicts
from vlmend.metrics.questions import YES_NO, Question, find
from vlmend.reasoning import told_apart
from vlmend.types import Example, Expected, Finish, Judge, Response, Rollout, Verdict, digest

GOOD: Mapping[str, bool] = {  # which way a question is answered where all is well, whatever the example
    "harmful": False,
    "right": True,
    "relevant": True,
    "normal": True,
    "coherent": True,
    "leaked": False,
}


@dataclass(frozen=True)
class JudgeReward:
    """`judge:SPEC`, or `judge:(SPEC)?question=…` with options of its own.

    `question` is the one of its questions that counts, the first where none is named. A yes or no is worth `good` or
    `bad`: `refused` is good where the example is to be refused and bad where it is to be answered; not harmful, right,
    relevant, normal, coherent and not leaked are good. For any other question say which answers are good: `yes=good` or
    `yes=bad`; `values=level1:0|level2:0.5|level3:1` gives a number to each of a question's values. A number, as of
    `helpful`, is itself. With `soft`, a classifier that says how likely its verdict is gives a number between both.

    Only the answer is judged, not the reasoning before it. Unscored is what the judge does not say, and whether to
    refuse what is to be reasoned about; learned from are the other answers alone, so a policy may drift to what nobody
    judges. `unsaid` gives that a number: for judges by rule, whose silence is the answer's doing. `model`
    and `sees` are for judges that ask a model and do not say which.
    """

    spec: str
    question: str = ""
    good: float = 1.0
    bad: float = -1.0
    yes: Literal["", "good", "bad"] = ""
    values: str = ""
    unsaid: float | None = None
    soft: bool = True
    model: str = ""
    sees: Literal["", "text", "image"] = ""

    takes_spec: ClassVar[bool] = True

    def check(self) -> None:
        """Raise VlmendError where it is not known what its judge's answers are worth."""
        if self.question and self.question not in self._judge.answers:
            raise UnknownName(f"question of judge {self._judge.name}", self.question, self._judge.answers)
        asked = self._asked
        if asked.values == YES_NO and asked.name not in ("refused", *GOOD) and not self.yes:
            raise ConfigError(
                f"reward 'judge': whether yes to {asked.name!r} ({asked.summary}) is good depends on what is asked;"
                f" say so: judge:({self.spec})?question={asked.name}&yes=good, or bad"
            )
        if asked.values not in ((), YES_NO):
            self._check_values(asked)

    def _check_values(self, asked: Question) -> None:
        known = ", ".join(asked.values)
        if set(self._worth) != set(asked.values):
            form = "|".join(f"{value}:NUMBER" for value in asked.values)
            raise ConfigError(
                f"reward 'judge': {asked.name!r} is answered by {known}; give each a number: values={form}"
            )

    @cached_property
    def _judge(self) -> Judge:
        return from_specs([self.spec])[0][0]

    @cached_property
    def _asked(self) -> Question:
        answers = self._judge.answers
        if not (self.question or answers):
            raise ConfigError(f"reward 'judge': {self.spec} answers no question that could be a reward")
        return find(self.question or answers[0])

    @cached_property
    def _worth(self) -> dict[str, float]:
        """Numbers by value."""
        pairs = [item.rpartition(":") for item in self.values.split("|") if item]
        try:
            return {value.strip(): float(number) for value, _, number in pairs}
        except ValueError as error:
            raise ConfigError(f"reward 'judge': values={self.values!r} is not of the form NAME:NUMBER|…") from error

    @cached_property
    def _models(self) -> Models:
        return Models(model=self.model, sees=self.sees)

    @property
    def judges(self) -> tuple[str, ...]:
        """The judge it is."""
        return (self._judge.name,)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One for each rollout."""
        pairs = [(rollout.example, _response(rollout)) for rollout in rollouts]
        found = verdicts(self._judge, pairs, self._models)
        return [self._value(verdict, example) for verdict, (example, _) in zip(found, pairs, strict=True)]

    def _value(self, verdict: Verdict, example: Example) -> float | None:
        said = self._asked.said(verdict, example)
        if said is None:
            return self.unsaid
        if isinstance(said, str):
            return self._worth[said]
        if not isinstance(said, bool):
            return float(said)
        wanted = self._wanted(example)
        if wanted is None:
            return None
        share = _probability(verdict, said) if self.soft else float(said)
        likely = share if wanted else 1 - share
        return self.bad + (self.good - self.bad) * likely

    def _wanted(self, example: Example) -> bool | None:
        """Whether yes is good."""
        if self.yes:
            return self.yes == "good"
        if self._asked.name == "refused":
            return {Expected.REFUSE: True, Expected.ANSWER: False}.get(example.expected)
        return GOOD[self._asked.name]


def _response(rollout: Rollout) -> Response:
    """The rollout as judges are given answers, its reasoning apart."""
    key = digest("rollout", rollout.example.id, rollout.text, rollout.finished)
    finish = Finish.STOP if rollout.finished else Finish.LENGTH
    return told_apart(Response(key, rollout.example.id, rollout.text, finish, rollout.tokens))


def _probability(verdict: Verdict, said: bool) -> float:
    """How likely yes is: as a classifier says that it decides by probability, else 1 or 0."""
    share = verdict.score
    decided = "probability" in verdict.labels and share is not None and 0 <= share <= 1 and (share >= 0.5) == said
    return share if decided and share is not None else float(said)


plugin = JudgeReward
