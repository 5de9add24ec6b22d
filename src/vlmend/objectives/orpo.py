"""ORPO: the chosen answer learned, its odds raised over those of the rejected, no reference (arXiv 2403.07691)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.objectives import Pairs, Positive, Weight, pair_sides
from vlmend.ops.preference import log_odds, preferred
from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class Orpo(Pairs):
    """sft CE(y_w) - weight * log sigmoid(log odds(y_w|x) - log odds(y_l|x)), mean over pairs (eq. 6 and 7).

    odds(y|x) = p / (1 - p) of p, the geometric mean of the probabilities of the answer's tokens. weight is the paper's
    lambda; CE is pooled over the chosen answers' tokens.
    """

    sft: Weight = 1.0
    weight: Positive = 0.1

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        chosen, rejected = pair_sides(policy)
        odds, other = (log_odds(side.answer_logps / side.lengths) for side in (chosen, rejected))
        values = self.weight * preferred(odds - other)
        return Loss.of({"odds": chosen.example_mean(values), **self.beside(policy)})


plugin = Orpo
