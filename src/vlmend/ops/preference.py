"""Preference terms on log-probabilities of whole answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dpo(chosen: Tensor, rejected: Tensor, chosen_0: Tensor, rejected_0: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta ((log pi - log pi_0)(chosen) - (log pi - log pi_0)(rejected))): DPO (arXiv 2305.18290, eq. 7).

    All (E,), summed over each answer's tokens. Without the chosen side it is NPO times beta/2.
    """
    return F.softplus(-beta * ((chosen - chosen_0) - (rejected - rejected_0)))
