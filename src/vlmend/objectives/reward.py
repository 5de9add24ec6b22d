"""A reward model by Bradley and Terry: one number for an answer, higher for the one that is preferred."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmend.objectives import Pairs, Weight, pair_sides
from vlmend.ops.scored import Look, Loss, Needs, Scored
from vlmend.ops.value import bradley_terry, centering
from vlmend.types import Role


@dataclass(frozen=True)
class RewardModel(Pairs):
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
        """The head at the end of both sides, and log-probabilities only of what is learned beside it."""
        needs = super().needs
        read = {Role.SAFETY} if self.sft else set[Role]()
        read |= {Role.RETAIN} if self.alpha else set()
        return replace(
            needs,
            look=Look(frozenset({Role.SAFETY, Role.FORGET}), "end", valued=True),
            tokens=frozenset(read),
            numbers={Role.SAFETY: self.margin_key} if self.margin_key else {},
        )

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        chosen, rejected = pair_sides(policy)
        margin = self.margin if chosen.numbers is None else self.margin + chosen.numbers
        parts = {"reward": chosen.example_mean(bradley_terry(chosen.values, rejected.values, margin))}
        if self.centering:
            parts["centering"] = self.centering * chosen.example_mean(centering(chosen.values, rejected.values))
        return Loss.of({**parts, **self.beside(policy)})


plugin = RewardModel
