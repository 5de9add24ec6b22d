"""Training objectives, one per file: frozen settings whose call turns scored tokens into a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field
from torch import Tensor

from vlmend.config import MethodConfig
from vlmend.errors import ConfigError
from vlmend.ops.scored import Loss, Needs, Scored, given
from vlmend.ops.unlearning import ascent
from vlmend.registry import objectives
from vlmend.types import Role

LEADERS = (Role.FORGET, Role.SAFETY)  # what a decouple example may be matched with, the first that a method uses
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Smoothing = Annotated[float, Field(ge=0, le=0.5)]


class Objective(Protocol):
    """What the loop asks of an objective: what it needs, and its loss on one forward pass.

    `reference` has the examples of the roles in `needs.reference`, scored with the model before tuning.
    """

    @property
    def needs(self) -> Needs: ...

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss: ...


@runtime_checkable
class Stops(Protocol):
    """An objective that can say that enough was done."""

    def reason_to_stop(self, parts: Mapping[str, float]) -> str:
        """Why the run should end after a step with these parts of the loss; empty to go on."""
        ...


@runtime_checkable
class Draws(Protocol):
    """An objective that draws tensors of its own, which are saved with the run."""

    def drawn(self, width: int) -> Mapping[str, Tensor]:
        """The tensors by name, for hidden states of this width."""
        ...


@runtime_checkable
class Surveys(Protocol):
    """An objective whose loss takes numbers of the whole step, which get no gradient (`needs.survey`)."""

    def survey(self, policy: Scored, reference: Scored | None = None) -> Mapping[str, Tensor]:
        """One pass's share of each number. They add up over the step to what `policy.totals.surveyed` then holds."""
        ...


@dataclass(frozen=True)
class Ascent:
    """Settings of every objective that makes the forgotten answers unlikely by plain ascent, weighted by `gamma`.

    That has no end of its own: with `floor`, tokens less likely than e^-floor are not pushed on; with `stop`, the run
    ends once the forgotten answers' mean loss (nats per token, of one optimizer step) reaches it. Both are off by
    default, as published. `alpha` weighs what is retained.
    """

    gamma: Positive = 1.0
    floor: Positive | None = None
    stop: Positive | None = None

    def forget(self, policy: Scored) -> Tensor:
        """gamma * mean of log pi over the tokens of all forgotten answers."""
        forget = policy.only(Role.FORGET)
        return self.gamma * forget.token_mean(ascent(forget.logps, self.floor))

    def reason_to_stop(self, parts: Mapping[str, float]) -> str:
        """See `Stops`."""
        reached = -parts["forget"] / self.gamma
        if self.stop is None or reached < self.stop:
            return ""
        return f"the forgotten answers' loss reached {reached:.3g} nats per token (method.stop: {self.stop:g})"


def cross_entropy(policy: Scored, *roles: Role) -> Tensor:
    """-(1/N) sum of log pi over the answer tokens of these roles, pooled."""
    answers = policy.only(*roles)
    return answers.token_mean(-answers.logps)


@dataclass(frozen=True)
class Decoupled:
    """Any objective with a Prompt Decouple term: L + lambda * CE on decouple examples (arXiv 2502.12520, PD loss).

    Those ask what a forgotten example asks, about a harmless picture, and have a normal answer.
    """

    base: Objective
    weight: float
    matched: bool = True

    @property
    def needs(self) -> Needs:
        """What the objective needs, and a decouple example with each forgotten (or else refused) one."""
        needs = self.base.needs
        leader = next((role for role in LEADERS if role in needs.roles), None)
        links = {**needs.links, Role.DECOUPLE: leader} if self.matched and leader else needs.links
        read = None if needs.tokens is None else needs.tokens | {Role.DECOUPLE}
        return replace(needs, streams=(*needs.streams, (Role.DECOUPLE,)), links=links, tokens=read)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        loss = self.base(policy, reference)
        decouple = self.weight * cross_entropy(policy, Role.DECOUPLE)
        return Loss(loss.total + decouple, {**loss.parts, "decouple": decouple.detach()})


@dataclass(frozen=True)
class Pairs:
    """Settings of every objective on preference pairs: what is kept beside the preference, each off by default.

    `sft` weighs CE of the chosen answers, `alpha` CE of retained examples, each pooled over tokens. With
    `picture_negatives` each pair that shows pictures comes with one more, in which the chosen answer is preferred to
    itself about another pair's pictures, so that it has to hang on what is seen (mDPO, arXiv 2406.11839).

    A pair is an example of role `safety` (chosen) and one of role `forget` (rejected) that share meta["pair"]; sources
    of preference pairs are read as such.
    """

    sft: Weight = 0.0
    alpha: Weight = 0.0
    picture_negatives: bool = False

    @property
    def needs(self) -> Needs:
        """Both sides of every pair in one row; retained examples only if they count."""
        streams = ((Role.FORGET,), (Role.SAFETY,), *(((Role.RETAIN,),) if self.alpha else ()))
        return Needs(streams, links={Role.SAFETY: Role.FORGET}, strict=True, picture_negatives=self.picture_negatives)

    def beside(self, policy: Scored) -> dict[str, Tensor]:
        """The terms that were asked for."""
        parts: dict[str, Tensor] = {}
        if self.sft:
            parts["sft"] = self.sft * cross_entropy(policy, Role.SAFETY)
        if self.alpha:
            parts["retain"] = self.alpha * cross_entropy(policy, Role.RETAIN)
        return parts


@dataclass(frozen=True)
class ComparedPairs(Pairs):
    """Settings of objectives on pairs that compare with the model before tuning.

    `length_normalized` divides the log-ratio of each answer by its tokens.
    """

    length_normalized: bool = False

    @property
    def needs(self) -> Needs:
        """Both sides also before tuning."""
        return replace(super().needs, reference=frozenset({Role.SAFETY, Role.FORGET}))

    def ratios(self, policy: Scored, reference: Scored | None) -> tuple[Tensor, Tensor]:
        """(E,) log pi - log pi_0 of the chosen answers and of the rejected."""
        now, before = pair_sides(policy), pair_sides(given(reference))
        chosen, rejected = (
            (one.answer_logps - other.answer_logps) / (one.lengths if self.length_normalized else 1.0)
            for one, other in zip(now, before, strict=True)
        )
        return chosen, rejected


def pair_sides(scored: Scored) -> tuple[Scored, Scored]:
    """The chosen and the rejected sides, pair by pair. Raises RuntimeError for half a pair."""
    chosen, rejected = scored.only(Role.SAFETY), scored.only(Role.FORGET)
    if len(chosen.roles) != len(rejected.roles):
        raise RuntimeError("a forward pass with half a pair: chosen and rejected sides go together")
    return chosen, rejected


def build(method: MethodConfig) -> Objective:
    """The objective a recipe names, with its Prompt Decouple term if it asks for one."""
    objective: Objective = objectives.build(method.name, method.settings)
    pd = method.prompt_decouple
    if pd is None:
        return objective
    matched = pd.pairing == "matched"
    if matched and not objective.needs.roles.intersection(LEADERS):
        raise ConfigError(
            f"method {method.name!r} uses no forgotten or refused examples for decouple examples to be matched with;"
            " pd: {pairing: random} shows them beside any"
        )
    return Decoupled(objective, pd.weight or objective.needs.decouple, matched)


def innermost(objective: Objective) -> Objective:
    """The objective without the terms added to it."""
    return objective.base if isinstance(objective, Decoupled) else objective
