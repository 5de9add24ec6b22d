"""Supervised fine-tuning: cross-entropy on the answers of safety and utility examples alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlmend.objectives import cross_entropy
from vlmend.ops.scored import Loss, Needs, Scored
from vlmend.types import Role

ROLES = (Role.SAFETY, Role.UTILITY, Role.RETAIN)


@dataclass(frozen=True)
class Sft:
    """-(1/N) * sum of log p(token): mean over all answer tokens of the step, each weighted by its example.

    Answers that are to be forgotten are never learned: examples of that role are left out.
    """

    needs: ClassVar[Needs] = Needs(streams=(ROLES,))

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        return Loss.of({"nll": cross_entropy(policy, *ROLES)})


plugin = Sft
