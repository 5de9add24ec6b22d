"""Direct preference optimization on pairs: the refusal before the answer that is forgotten (arXiv 2305.18290)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import ComparedPairs, Positive, Smoothing, Weight
from vlmend.ops.preference import preferred
from vlmend.ops.scored import Loss, Scored
from vlmend.types import Role


@dataclass(frozen=True)
class Dpo(ComparedPairs):
    """-log sigmoid(beta (ratio of the chosen answer - ratio of the rejected one)), mean over pairs (eq. 7).

    ratio = log pi(y|x) - log pi_0(y|x). With `label_smoothing` that share of the pairs is held to be the wrong way
    around (conservative DPO); with `length_normalized` each ratio is a mean per token (as in Tulu 3, arXiv 2411.15124).

    `anchor` weighs -log sigmoid(beta ratio of the chosen answer), which keeps it from falling (mDPO, arXiv 2406.11839).
    That paper's loss, halved, is DPO with `picture_negatives`, whose mean is over twice as many pairs, and anchor 0.5.
    """

    beta: Positive = 0.1
    label_smoothing: Smoothing = 0.0
    anchor: Weight = 0.0

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        chosen, rejected = self.ratios(policy, reference)
        values = preferred(self.beta * (chosen - rejected), self.label_smoothing)
        mean = policy.only(Role.SAFETY).example_mean
        parts = {"dpo": mean(values)}
        if self.anchor:
            parts["anchor"] = self.anchor * mean(preferred(self.beta * chosen))
        return Loss.of({**parts, **self.beside(policy)})


plugin = Dpo
