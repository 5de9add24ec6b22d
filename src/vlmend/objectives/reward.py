"""A reward model by Bradley and Terry: one number for an answer, higher for the one that is preferred."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmend.objectives import ValuedPairs, Weight, pair_sides
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.ops.value import bradley_terry, centering
from vlmend.types import Role


@dataclass(frozen=True)
class RewardModel(ValuedPairs):
    """-log sigmoid(r(chosen) - r(rejected) - margin), mean over pairs (arXiv 2203.02155, eq. 1).

    r is a linear head on the last hidden state at the answer's end token; it is saved as `head.safetensors` beside the
    adapter, and `model:FOLDER` is then a reward. `margin` is the same for all pairs; `margin_key` names the key of meta
    that has what is added to it for each (arXiv 2307.09288, eq. 2). `centering` weighs (r(chosen) + r(rejected))^2,
    which holds rewards around 0.
    """

    margin: float = 0.0
    margin_key: str = ""
    centering: Weight = 0.0

    @property
    def needs(self) -> Needs:
        """What all of its kind need, and margins of rows."""
        return replace(super().needs, numbers={Role.SAFETY: self.margin_key} if self.margin_key else {})

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        chosen, rejected = pair_sides(policy)
        margin = self.margin if chosen.numbers is None else self.margin + chosen.numbers
        parts = {"reward": chosen.example_mean(bradley_terry(chosen.values, rejected.values, margin))}
        if self.centering:
            parts["centering"] = self.centering * chosen.example_mean(centering(chosen.values, rejected.values))
        return Loss.of({**parts, **self.beside(policy)})


plugin = RewardModel
