"""Gradient ascent on the forgotten answers alone (SafeEraser, arXiv 2502.12520); destroys what it does not bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlmend.objectives import Ascent
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.types import Role


@dataclass(frozen=True)
class Ga(Ascent):
    """-gamma CE(forget)."""

    needs: ClassVar[Needs] = Needs(streams=((Role.FORGET,),), decouple=0.5)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        return Loss.of({"forget": self.forget(policy)})


plugin = Ga
