"""Identity preference optimization: pulls each pair's margin to one target and no further (arXiv 2310.12036)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import ComparedPairs, Positive
from vlmend.ops.scored import Loss, Scored
from vlmend.types import Role


@dataclass(frozen=True)
class Ipo(ComparedPairs):
    """(ratio of the chosen answer - ratio of the rejected one - 1/(2 beta))^2, mean over pairs (eq. 17, beta for tau).

    ratio = log pi(y|x) - log pi_0(y|x). Much-used code takes ratios per token: `length_normalized`.
    """

    beta: Positive = 0.1

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        chosen, rejected = self.ratios(policy, reference)
        values = (chosen - rejected - 1 / (2 * self.beta)) ** 2
        return Loss.of({"ipo": policy.only(Role.SAFETY).example_mean(values), **self.beside(policy)})


plugin = Ipo
