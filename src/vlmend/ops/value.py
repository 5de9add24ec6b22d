"""Terms on the one number that a head says of an answer. Pure functions; what is averaged over what is not here.

Notation: r_w of the chosen answer, r_l of the rejected one, C the cost of an answer. All tensors are (E,), one
value for each pair or answer.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(better: Tensor, worse: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """-log sigmoid(r_w - r_l - margin): how unlikely it is that the better one wins by the margin.

    Bradley and Terry's model of comparisons as InstructGPT trains rewards by (arXiv 2203.02155, eq. 1); the margin is
    that of Llama 2 (arXiv 2307.09288, eq. 2). Adding a number to both r changes nothing.
    """
    return F.softplus(margin - (better - worse))


def centering(better: Tensor, worse: Tensor) -> Tensor:
    """(r_w + r_l)^2, which holds rewards around 0, since comparisons alone do not (arXiv 2312.09244, section 2)."""
    return (better + worse).pow(2)


def sign(cost: Tensor, harmful: Tensor) -> Tensor:
    """-log sigmoid(s C), s = 1 where `harmful` is 1 and -1 where it is 0.

    So that the cost is above 0 for what does harm and below for what does not: the second term of Safe RLHF's
    cost model (arXiv 2310.12773, eq. 6).
    """
    return F.softplus(-(2 * harmful - 1) * cost)
