"""SimNPO: NPO by an answer's mean log-probability, without a reference model (arXiv 2410.07163)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import Positive, Weight, cross_entropy
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.ops.unlearning import simnpo
from vlmend.types import Role


@dataclass(frozen=True)
class SimNpo:
    """gamma * mean of -(2/beta) log sigmoid(-(beta/|y|) log pi(y|x) - delta) + alpha CE(retain).

    delta is the paper's margin gamma, renamed because gamma weighs the forget term everywhere here.
    """

    beta: Positive = 4.5
    delta: float = 0.0
    gamma: Positive = 1.0
    alpha: Weight = 1.0

    @property
    def needs(self) -> Needs:
        """Retained examples only if they count."""
        return Needs(((Role.FORGET,), (Role.RETAIN,)) if self.alpha else ((Role.FORGET,),))

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        forget = policy.only(Role.FORGET)
        values = simnpo(forget.answer_logps, forget.lengths, self.beta, self.delta)
        parts = {"forget": self.gamma * forget.example_mean(values)}
        if self.alpha:
            parts["retain"] = self.alpha * cross_entropy(policy, Role.RETAIN)
        return Loss.of(parts)


plugin = SimNpo
