"""Training objectives, one per file: frozen settings whose call turns scored tokens into a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field
from torch import Tensor

from vlmend.config import MethodConfig
from vlmend.errors import ConfigError
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.ops.unlearning import ascent
from vlmend.registry import objectives
from vlmend.types import Role

LEADERS = (Role.FORGET, Role.SAFETY)  # what a decouple example may be matched with, the first that a method uses
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


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
