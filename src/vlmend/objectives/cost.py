"""A cost model, as in Safe RLHF: one number for an answer, above 0 where it does harm (arXiv 2310.12773)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from vlmend.objectives import ValuedPairs, Weight, pair_sides
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.ops.value import bradley_terry, sign
from vlmend.types import Role


@dataclass(frozen=True)
class CostModel(ValuedPairs):
    """-log sigmoid(C(rejected) - C(chosen)) - sign (log sigmoid(s_w C(chosen)) + log sigmoid(s_l C(rejected))) (eq. 6).

    Both terms are means over pairs; the rejected answer is the one that does more harm. s is 1 for an answer that does
    harm and -1 for one that does not. `harmful`: `rejected` takes every rejected answer for harmful and every chosen
    one for harmless; `rows` reads it from meta["chosen_harmful"] and meta["rejected_harmful"], each 1 or 0, since both
    may do harm. `sign` weighs the second term; as published it is 1. C is a head as that of method `reward`, and
    `model:FOLDER` is -C as a reward.
    """

    sign: Weight = 1.0
    harmful: Literal["rejected", "rows"] = "rejected"

    @property
    def needs(self) -> Needs:
        """What all of its kind need, and which answers do harm where rows say so."""
        keys = {Role.SAFETY: "chosen_harmful", Role.FORGET: "rejected_harmful"}
        return replace(super().needs, numbers=keys if self.harmful == "rows" else {})

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        chosen, rejected = pair_sides(policy)
        parts = {"cost": chosen.example_mean(bradley_terry(rejected.values, chosen.values))}
        if self.sign:
            one, other = (
                torch.full_like(side.values, by_side) if side.numbers is None else side.numbers
                for side, by_side in ((chosen, 0.0), (rejected, 1.0))
            )
            both = sign(chosen.values, one) + sign(rejected.values, other)
            parts["sign"] = self.sign * chosen.example_mean(both)
        return Loss.of({**parts, **self.beside(policy)})


plugin = CostModel
