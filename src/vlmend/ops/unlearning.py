"""Unlearning terms on log-probabilities and hidden states. Pure functions; what is averaged over what is not here.

Notation: y an answer, x picture and question, |y| its tokens, pi the model, pi_0 the model before tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlmend.ops.head import kl
from vlmend.ops.scored import Vocabulary

CHUNK = 256  # positions whose whole distributions exist in fp32 at the same time


def ascent(logps: Tensor, floor: float | None = None) -> Tensor:
    """log pi(token): minimised, it makes the token unlikely (gradient ascent; SafeEraser, arXiv 2502.12520, eq. of GA).

    Unbounded below as published. With `floor`, max(log pi, -floor): a token less likely than e^-floor is not pushed on.
    """
    return logps if floor is None else logps.clamp(min=-floor)


def npo(logps: Tensor, reference: Tensor, beta: float) -> Tensor:
    """-(2/beta) log sigmoid(-beta (log pi - log pi_0)) of each value: NPO (arXiv 2404.05868, eq. 3).

    As a softplus in fp32, so that neither end overflows. Bounded below by 0; at pi = pi_0 it is (2/beta) log 2 and its
    gradient that of log pi; for beta -> 0 its gradient is that everywhere.
    """
    return (2.0 / beta) * F.softplus(beta * (logps - reference))


def simnpo(logps: Tensor, lengths: Tensor, beta: float, delta: float = 0.0) -> Tensor:
    """-(2/beta) log sigmoid(-(beta/|y|) log pi(y|x) - delta): SimNPO (arXiv 2410.07163, eq. 4), without a reference.

    logps and lengths (E,) are sums and counts over each answer.
    """
    return (2.0 / beta) * F.softplus(beta * logps / lengths + delta)


def kl_to_reference(policy: Vocabulary, reference: Vocabulary, chunk: int = CHUNK) -> Tensor:
    """(M,) KL(pi_0 || pi) = sum over v of pi_0(v) (log pi_0(v) - log pi(v)), at each position.

    Done a few positions at a time, so that no fp32 copy of all distributions is kept: through a frozen head in one go,
    otherwise again in the backward pass. Each side has a head of its own, for a trained one is not what it was.
    """
    if policy.head is not None and reference.head is not None:
        return kl(policy.held, reference.held, policy.head, reference.head)
    pieces = [checkpoint(_kl, now, before, use_reentrant=False) for now, before in _aligned(policy, reference, chunk)]
    return torch.cat(pieces)


def _aligned(policy: Vocabulary, reference: Vocabulary, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(policy.chunks(chunk), reference.chunks(chunk), strict=True)


def _kl(logits: Tensor, reference: Tensor) -> Tensor:
    now, before = logits.float().log_softmax(-1), reference.float().log_softmax(-1)
    return (before.exp() * (before - now)).sum(-1)


def control_vector(width: int, kind: Literal["gaussian", "uniform"], seed: int) -> Tensor:
    """(width,) a random direction of norm 1: RMU's target (arXiv 2403.03218, section 4).

    gaussian: uniform on the sphere. uniform: each entry from [0, 1), as in RMU's released code and Safety Mirage's: all
    entries are positive, and any two such vectors have a cosine near 3/4, so that it is hardly random.
    Drawn on the CPU from the seed alone: the same for every process and device.
    """
    chance = torch.Generator().manual_seed(seed)
    draw = torch.randn if kind == "gaussian" else torch.rand
    vector = draw(width, generator=chance, dtype=torch.float32)
    return vector / vector.norm()


def steering(states: Tensor, control: Tensor, norm: float | Tensor) -> Tensor:
    """(M,) mean over d of (h - norm * u)^2: RMU's forget term at each position. `norm` is one or (M,) numbers."""
    target = torch.as_tensor(norm, dtype=states.dtype, device=states.device).reshape(-1, 1) * control
    return (states - target).pow(2).mean(-1)


def drift(states: Tensor, reference: Tensor) -> Tensor:
    """(M,) mean over d of (h - h_0)^2: RMU's retain term at each position."""
    return (states - reference).pow(2).mean(-1)
