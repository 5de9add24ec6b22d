"""Rewards: what a rollout is worth to tuning. One file each; here they are put together into one number.

A reward that has nothing to say of a rollout leaves it unscored, and so does their sum: what a judge failed on is left
out and counted by whoever tunes, and is never worth 0, which may be more than what was said well deserves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import Field, ValidationError

from vlmend.config import MethodConfig, Section, explain
from vlmend.errors import ConfigError, VlmendError
from vlmend.judge.binding import named
from vlmend.judge.verdicts import from_specs
from vlmend.registry import Spec
from vlmend.registry import rewards as registry
from vlmend.types import Checked, HearsJudges, Reward, Rollout


class Term(Section):
    """One reward of several, as a recipe has it: min(cap, max(floor, reward)), times `weight`.

    `name` is what it is logged under; its spec where none is given. `options` are settings of the reward that a spec
    has no room for, such as a regular expression.
    """

    reward: str = Field(min_length=1)
    weight: float = Field(default=1.0, allow_inf_nan=False)
    cap: float | None = Field(default=None, allow_inf_nan=False)
    floor: float | None = Field(default=None, allow_inf_nan=False)
    name: str = ""
    options: Mapping[str, Any] = {}

    @property
    def called(self) -> str:
        """The name it is logged under."""
        return self.name or self.reward

    def clipped(self, value: float) -> float:
        """The value within floor and cap."""
        value = value if self.floor is None else max(value, self.floor)
        return value if self.cap is None else min(value, self.cap)


@dataclass(frozen=True)
class Rewarded:
    """What one rollout is worth: the sum, and what each reward gave before it was clipped and weighted.

    `total` is None where any of the terms is: nobody knows what the rollout is worth.
    """

    total: float | None
    terms: Mapping[str, float | None]

    def as_cost(self) -> Rewarded:
        """The same turned around: what it costs, where what is wanted is little of it."""
        terms = {name: None if value is None else -value for name, value in self.terms.items()}
        return Rewarded(None if self.total is None else -self.total, terms)


@dataclass(frozen=True)
class Composite:
    """Several rewards and how they count: total = sum over terms of weight * min(cap, max(floor, reward))."""

    terms: tuple[tuple[Term, Reward], ...]

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of all judges that its rewards hear, each once."""
        heard = [reward.judges for _, reward in self.terms if isinstance(reward, HearsJudges)]
        return tuple(dict.fromkeys(name for names in heard for name in names))

    @property
    def taken_off(self) -> frozenset[str]:
        """The terms that an answer is worth less for."""
        return frozenset(term.called for term, _ in self.terms if term.weight < 0)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Rewarded]:
        """One for each rollout, in order. Raises RuntimeError for a reward that does not give a number for each."""
        given = {term.called: _values(term, reward, rollouts) for term, reward in self.terms}
        return [
            Rewarded(self._total(found), found)
            for found in ({name: values[place] for name, values in given.items()} for place in range(len(rollouts)))
        ]

    def _total(self, found: Mapping[str, float | None]) -> float | None:
        shares: list[float] = []
        for term, _ in self.terms:
            value = found[term.called]
            if value is None:
                return None
            shares.append(term.weight * term.clipped(value))
        return math.fsum(shares)


def _values(term: Term, reward: Reward, rollouts: Sequence[Rollout]) -> list[float | None]:
    """What a reward gives; a number that is not finite says nothing."""
    found = list(reward(rollouts))
    if len(found) != len(rollouts):
        raise RuntimeError(f"reward {term.reward} gave {len(found)} numbers for {len(rollouts)} rollouts")
    return [None if value is None or not math.isfinite(value) else float(value) for value in found]


def from_spec(text: str, options: Mapping[str, Any] = MappingProxyType({})) -> Reward:
    """A reward by its spec, checked as far as that needs no weights. Raises VlmendError."""
    reward: Reward = registry.from_spec(text, options)
    if isinstance(reward, Checked):
        reward.check()
    return reward


def refuse_same(method: MethodConfig, judges: Iterable[str]) -> None:
    """Raise ConfigError where a judge that is to judge the tuned model is heard by a reward or cost of its method.

    `judges` are specs or `QUESTION=SPEC`, of which those with allow_self=yes are let be. Two specs that differ in
    options alone name one judge.
    """
    made = [build([term]) for term in steered_by(method)]
    if method.same_judge == "allowed" or not made:
        return
    heard = {_which(name): one.terms[0][0].reward for one in made for name in one.judges}
    given, let_be = from_specs(named(judge)[1] for judge in judges)
    for spec in (judge.name for judge in given if judge.name not in let_be):
        if _which(spec) in heard:
            raise ConfigError(
                f"judge {spec} is a reward of method {method.name} ({heard[_which(spec)]}), and says nothing about what"
                " was tuned with it; method.same_judge=allowed asks for it all the same"
            )


def steered_by(method: MethodConfig) -> list[Any]:
    """The rewards and costs that a method learns by, as a recipe lists them; none where it learns by none."""
    given = [method.settings.get(key) for key in ("rewards", "costs")]
    return [term for terms in given if isinstance(terms, list | tuple) for term in terms]


def _which(judge: str) -> tuple[str, str]:
    """Which judge it is, whatever its options."""
    spec = Spec.parse(judge)
    return spec.name, spec.argument


def build(terms: Sequence[Term | Mapping[str, Any] | str]) -> Composite:
    """Rewards as a recipe lists them, each a mapping with the keys of `Term`, or a spec alone.

    Raises ConfigError in one line for a key, a value or a spec that cannot be meant.
    """
    if isinstance(terms, str | Mapping) or not terms:
        raise ConfigError(f"rewards is a list with at least one reward, such as [{{reward: rule}}] (got {terms!r})")
    built: list[tuple[Term, Reward]] = []
    for place, given in enumerate(terms):
        where = f"rewards.{place}"
        try:
            term = Term.model_validate({"reward": given} if isinstance(given, str) else given)
        except ValidationError as error:
            raise ConfigError(f"{where}: {explain(error, Term)}") from error
        if term.floor is not None and term.cap is not None and term.floor > term.cap:
            raise ConfigError(f"{where}: floor {term.floor:g} is above cap {term.cap:g}")
        try:
            built.append((term, from_spec(term.reward, term.options)))
        except VlmendError as error:
            raise ConfigError(f"{where}: {error}") from error
        if sum(term.called == other.called for other, _ in built) > 1:
            raise ConfigError(f"{where}: there are two rewards {term.called!r}; give each a name of its own")
    return Composite(tuple(built))
