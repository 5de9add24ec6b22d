"""Log-probabilities of supervised tokens. The only place where labels are shifted."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100


class TokenLogps(NamedTuple):
    """N supervised tokens, flat: their log-probabilities (N,) in fp32 and the row (N,) each belongs to."""

    logps: Tensor
    owner: Tensor


def answer_logps(logits: Tensor, labels: Tensor) -> TokenLogps:
    """log p(labels[b, t] | everything before t) wherever labels[b, t] is not IGNORE.

    logits (B, T, V) at position t-1 predict the token at t; labels (B, T) are not shifted by the caller.
    Only the supervised positions are turned to fp32, so the cost is N x V, not B x T x V.
    """
    targets = labels[:, 1:]
    rows, positions = torch.nonzero(targets != IGNORE, as_tuple=True)
    picked = logits[rows, positions].float()
    logps = -F.cross_entropy(picked, targets[rows, positions], reduction="none")
    return TokenLogps(logps, rows)
