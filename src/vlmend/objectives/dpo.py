"""Direct preference optimization on pairs: the refusal before the answer that is forgotten (arXiv 2305.18290)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import Positive
from vlmend.ops.preference import dpo
from vlmend.ops.scored import Loss, Needs, Scored, given
from vlmend.types import Role


@dataclass(frozen=True)
class Dpo:
    """-log sigmoid(beta (ratio of the chosen answer - ratio of the rejected one)), mean over pairs.

    A pair is an example of role `safety` (chosen) and one of role `forget` (rejected) that share meta["pair"]; sources
    of preference pairs are read as such.
    """

    beta: Positive = 0.1

    @property
    def needs(self) -> Needs:
        """Both sides of every pair in one row, also before tuning."""
        both = frozenset({Role.SAFETY, Role.FORGET})
        streams = ((Role.FORGET,), (Role.SAFETY,))
        return Needs(streams, links={Role.SAFETY: Role.FORGET}, strict=True, reference=both)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        both = (policy, given(reference))
        chosen, chosen_0 = (s.only(Role.SAFETY) for s in both)
        rejected, rejected_0 = (s.only(Role.FORGET) for s in both)
        if len(chosen.roles) != len(rejected.roles):
            raise RuntimeError("a forward pass with half a pair: chosen and rejected sides go together")
        sides = (side.answer_logps for side in (chosen, rejected, chosen_0, rejected_0))
        values = dpo(*sides, beta=self.beta)
        return Loss.of({"dpo": chosen.example_mean(values)})


plugin = Dpo
