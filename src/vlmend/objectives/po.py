"""Preference optimization: a refusal in place of what is forgotten, and the retained answers (arXiv 2502.12520)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vlmend.objectives import Positive, cross_entropy
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.types import Role


@dataclass(frozen=True)
class Po:
    """gamma CE(refuse) + alpha CE(retain); refusals are examples of the role `safety`.

    pooled: one mean over all tokens as the released code has it (there under the name `idk`), in which a short refusal
    beside a long answer weighs little. gamma and alpha are not part of that and must stay 1.
    """

    gamma: Positive = 1.0
    alpha: Positive = 1.0
    reduction: Literal["per_role", "pooled"] = "per_role"

    needs: ClassVar[Needs] = Needs(streams=((Role.SAFETY,), (Role.RETAIN,)))

    def __post_init__(self) -> None:
        if self.reduction == "pooled" and (self.gamma, self.alpha) != (1.0, 1.0):
            raise ValueError("reduction: pooled knows no gamma and alpha")

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        if self.reduction == "pooled":
            return Loss.of({"nll": cross_entropy(policy, Role.SAFETY, Role.RETAIN)})
        refuse, retain = (cross_entropy(policy, role) for role in (Role.SAFETY, Role.RETAIN))
        return Loss.of({"refuse": self.gamma * refuse, "retain": self.alpha * retain})


plugin = Po
