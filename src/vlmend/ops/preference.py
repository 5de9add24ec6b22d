"""Preference terms on log-probabilities of whole answers. Pure functions; what is averaged over what is not here.

Notation: y_w the chosen answer, y_l the rejected one, x picture and question, pi the model, pi_0 the model before
tuning, margin the difference of what is compared between the two sides. All tensors are (E,), one value for each pair
or answer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo(
    chosen: Tensor, rejected: Tensor, chosen_0: Tensor, rejected_0: Tensor, beta: float, smoothing: float = 0.0
) -> Tensor:
    """-log sigmoid(beta ((log pi - log pi_0)(chosen) - (log pi - log pi_0)(rejected))): DPO (arXiv 2305.18290, eq. 7).

    Log-probabilities are summed over each answer's tokens. Without the chosen side it is NPO times beta/2. `smoothing`
    as in `preferred`.
    """
    return preferred(beta * ((chosen - chosen_0) - (rejected - rejected_0)), smoothing)


def preferred(margin: Tensor, smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigmoid(margin) - e log sigmoid(-margin), e the share of pairs held to be the wrong way around.

    Bradley and Terry's likelihood of a preference; with e it is conservative DPO (E. Mitchell, "A note on
    DPO with noisy preferences", 2023).
    """
    return (1 - smoothing) * F.softplus(-margin) + smoothing * F.softplus(margin)


def kto(ratio: Tensor, wanted: Tensor, reference_point: float, beta: float) -> Tensor:
    """1 - sigmoid(beta (r - z0)) of answers that are `wanted`, 1 - sigmoid(beta (z0 - r)) of the others.

    r = log pi - log pi_0 of whole answers, `wanted` (E,) bool, z0 the reference point: KTO's loss less what weighs
    either kind (arXiv 2402.01306, section 4).
    """
    gain = beta * (ratio - reference_point)
    return torch.where(wanted, torch.sigmoid(-gain), torch.sigmoid(gain))


def log_odds(logps: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p <= 0. From the largest p below 1 on it is even: what is certain is not pushed on."""
    p = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return p - torch.log(-torch.expm1(p))
