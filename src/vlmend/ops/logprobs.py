"""Log-probabilities of supervised tokens. The only place where labels are shifted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vlmend.ops.head import logps_of
from vlmend.ops.scored import Places

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
    rows, positions, targets = supervised(labels)
    return TokenLogps(logps_of(logits[rows, positions], targets), rows)


class Supervised(NamedTuple):
    """N supervised tokens (`targets`): their rows, and the positions whose logits predict them, each (N,)."""

    rows: Tensor
    positions: Tensor
    targets: Tensor


def supervised(labels: Tensor) -> Supervised:
    """Where labels (B, T) are not IGNORE, row by row."""
    rows, positions = torch.nonzero(predicting(labels), as_tuple=True)
    return Supervised(rows, positions, labels[rows, positions + 1])


def predicting(labels: Tensor) -> Tensor:
    """(B, T) whether the token after this position is supervised, so that this one's logits predict it."""
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, :-1] = labels[:, 1:] != IGNORE
    return mask


def places(which: Places, labels: Tensor, attention_mask: Tensor, image_mask: Tensor) -> Tensor:
    """(B, T) where to look: end < answer < text < no_bos < no_pad < all, each within the next (see `Look`)."""
    real = attention_mask.bool()
    first = real & (real.cumsum(dim=1) == 1)
    match which:
        case "end":
            answer = labels != IGNORE
            return answer & (answer.flip(1).cumsum(dim=1).flip(1) == 1)
        case "answer":
            return labels != IGNORE
        case "text":
            return real & ~first & ~image_mask
        case "no_bos":
            return real & ~first
        case "no_pad":
            return real
        case "all":
            return torch.ones_like(real)
