"""Contrastive preference optimization: DPO without a reference, and the chosen answer learned (arXiv 2401.08417)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import Pairs, Positive, Smoothing, Weight, pair_sides
from vlmend.ops.preference import preferred
from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class Cpo(Pairs):
    """-log sigmoid(beta log pi(y_w|x) - beta log pi(y_l|x)), mean over pairs, + sft CE(y_w).

    The paper's likelihood term is of whole answers; CE here is pooled over their tokens, as in the code that is used.
    `label_smoothing` as in dpo.
    """

    sft: Weight = 1.0
    beta: Positive = 0.1
    label_smoothing: Smoothing = 0.0

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        chosen, rejected = pair_sides(policy)
        values = preferred(self.beta * (chosen.answer_logps - rejected.answer_logps), self.label_smoothing)
        return Loss.of({"cpo": chosen.example_mean(values), **self.beside(policy)})


plugin = Cpo
