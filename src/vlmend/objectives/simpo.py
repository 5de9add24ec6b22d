"""SimPO: preference by the mean log-probability per token, with a margin and no reference (arXiv 2405.14734)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import Pairs, Positive, Weight, pair_sides
from vlmend.ops.preference import preferred
from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class Simpo(Pairs):
    """-log sigmoid(beta/|y_w| log pi(y_w|x) - beta/|y_l| log pi(y_l|x) - gamma), mean over pairs (eq. 6)."""

    beta: Positive = 2.0
    gamma: Weight = 1.0

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        chosen, rejected = pair_sides(policy)
        reward, other = (self.beta * side.answer_logps / side.lengths for side in (chosen, rejected))
        values = preferred(reward - other - self.gamma)
        return Loss.of({"simpo": chosen.example_mean(values), **self.beside(policy)})


plugin = Simpo
