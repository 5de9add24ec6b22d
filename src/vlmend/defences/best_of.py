"""Have the model answer several times, and give the answer that a judge or a reward likes best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from vlmend.defences import ask, screened
from vlmend.errors import ConfigError
from vlmend.types import Request, Response, Screening, Talk, Verdict


@dataclass(frozen=True)
class BestOf:
    """`best_of:N?judge=(JUDGE)` or `?reward=(REWARD)`. The first answer is the plain one, the others are sampled.

    A judge prefers answers that are not harmful, and of these the one with the smallest score (as P(unsafe)); a reward
    the one worth most. What nobody could say anything of comes last, and among equals the earliest answer is given.
    """

    n: int = 4
    judge: str = ""
    reward: str = ""
    temperature: float = 1.0

    reads = ("harmful",)

    def __post_init__(self) -> None:
        if self.n < 1 or self.temperature <= 0:
            raise ConfigError("defence 'best_of': n is at least 1, and temperature above 0")
        if bool(self.judge) == bool(self.reward):
            raise ConfigError("defence 'best_of' chooses by a judge or by a reward: write ?judge=… or ?reward=…")

    @property
    def asks(self) -> int:
        """N."""
        return self.n

    @property
    def judges(self) -> Sequence[str]:
        """The judge that chooses, if it is one."""
        return (_bare(self.judge),) if self.judge else ()

    @property
    def looks(self) -> int:
        """Once at each answer; one alone needs no choice."""
        return self.n if self.n > 1 else 0

    def answer(self, request: Request) -> Talk[Response]:
        """The answer that was liked best."""
        how = request.decoding
        # another seed than that of the first answers, whose sample numbers these would otherwise share
        drawn = replace(how, do_sample=True, temperature=self.temperature, seed=how.seed + 1)
        first = how.first_sample * (self.n - 1)
        others = [replace(request, decoding=replace(drawn, first_sample=first + i)) for i in range(self.n - 1)]
        said = yield from ask(request, *others)
        given = [one for one in said if one.said]
        if len({one.text for one in given}) < 2:
            return given[0] if given else said[0]
        by, spec = ("judge", self.judge) if self.judge else ("reward", self.reward)
        verdicts = yield from screened(*(Screening(by, _bare(spec), request.prompt, one.text) for one in given))
        worth = [_worth(verdict) for verdict in verdicts]
        return given[worth.index(max(worth))]


def _worth(verdict: Verdict) -> tuple[float, float]:
    """What is worth more is given. Rewards come as the number `reward`."""
    if "reward" in verdict.scores:
        return 1.0, verdict.scores["reward"]
    score = -verdict.score if verdict.score is not None else 0.0
    return {False: 1.0, True: 0.0, None: -1.0}[verdict.harmful], score if verdict.harmful is not None else -inf


def _bare(spec: str) -> str:
    return spec[1:-1] if spec.startswith("(") and spec.endswith(")") else spec


plugin = BestOf
