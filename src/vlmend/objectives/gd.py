"""Gradient difference: ascent on the forgotten answers, descent on the retained (SafeEraser, arXiv 2502.12520)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlmend.objectives import Ascent, Positive, cross_entropy
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.types import Role


@dataclass(frozen=True)
class Gd(Ascent):
    """-gamma CE(forget) + alpha CE(retain). With Prompt Decouple the released code halves alpha to 0.5."""

    alpha: Positive = 1.0

    needs: ClassVar[Needs] = Needs(streams=((Role.FORGET,), (Role.RETAIN,)), decouple=0.5)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        return Loss.of({"forget": self.forget(policy), "retain": self.alpha * cross_entropy(policy, Role.RETAIN)})


plugin = Gd
