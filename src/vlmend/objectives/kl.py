"""Ascent on the forgotten answers while the retained ones stay as they were, by KL divergence (arXiv 2502.12520)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlmend.objectives import Ascent, Positive
from vlmend.ops.scored import Look, Loss, Needs, Scored, given
from vlmend.ops.unlearning import kl_to_reference
from vlmend.types import Role


@dataclass(frozen=True)
class Kl(Ascent):
    """-gamma CE(forget) + alpha mean of KL(pi_0 || pi) on retained examples.

    positions: the mean is over the positions that predict an answer token, or over `all` as the released code has it,
    pictures and padding included, so that there the weight of the term depends on what else is in the batch.
    """

    alpha: Positive = 1.0
    positions: Literal["answer", "all"] = "answer"

    @property
    def needs(self) -> Needs:
        """Whole distributions on the retained examples, also of the model before tuning."""
        retain = frozenset({Role.RETAIN})
        look = Look(retain, self.positions, vocabulary=True)
        return Needs(((Role.FORGET,), (Role.RETAIN,)), reference=retain, look=look)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        now, before = policy.only(Role.RETAIN), given(reference).only(Role.RETAIN)
        divergence = now.spot_mean(kl_to_reference(now.vocabulary, before.vocabulary))
        return Loss.of({"forget": self.forget(policy), "retain": self.alpha * divergence})


plugin = Kl
