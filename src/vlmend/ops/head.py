"""From hidden states to log-probabilities through a language-model head, a few positions at a time.

The head multiplies d numbers by a (V, d) matrix; V is a hundred times the rest. Neither logits of all positions nor
their gradients exist at once: where the head is frozen, what the backward pass will need of a position is d numbers,
and they are computed while its logits are at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ELEMENTS = 2**24  # logits that exist at once, in fp32 64 MiB


class Head(NamedTuple):
    """Logits are hidden states (.., d) times `weight` (V, d), plus `bias` (V,) if there is one."""

    weight: Tensor
    bias: Tensor | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V)."""
        return F.linear(hidden, self.weight, self.bias)

    @property
    def frozen(self) -> bool:
        """Whether it takes no gradient."""
        return not (self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))

    @property
    def chunk(self) -> int:
        """Positions whose logits may exist at once."""
        return max(1, ELEMENTS // self.weight.shape[0])


def token_logps(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """(N,) natural-log probabilities in fp32 of targets (N,) given hidden states (N, d)."""
    if head.frozen:
        return _frozen(_Logps.apply(hidden, head, targets))
    pieces = zip(hidden.split(head.chunk), targets.split(head.chunk), strict=True)
    if len(hidden) <= head.chunk:
        return torch.cat([_logps(head.logits(h).float(), y) for h, y in pieces])
    return torch.cat(
        [checkpoint(lambda h, y: _logps(head.logits(h).float(), y), h, y, use_reentrant=False) for h, y in pieces]
    )


def kl(hidden: Tensor, reference: Tensor, head: Head) -> Tensor:
    """(M,) KL(p_0 || p) of the distributions that a frozen head makes of hidden states (M, d) before and now."""
    return _frozen(_Kl.apply(hidden, reference, head))


def _frozen(value: Any) -> Tensor:
    return value


def _logps(logits: Tensor, targets: Tensor) -> Tensor:
    return -F.cross_entropy(logits, targets, reduction="none")


class _Logps(torch.autograd.Function):
    """log p(y | h) = z_y - log sum of exp z, z = W h; its gradient in h is (W_y - sum of p_v W_v)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        slopes = torch.empty_like(hidden) if wanted else hidden
        values = hidden.new_empty(len(hidden), dtype=torch.float32)
        for some in _spans(len(hidden), head.chunk):
            logits = head.logits(hidden[some]).float()
            logps = logits.log_softmax(-1)
            values[some] = logps.gather(1, targets[some, None]).squeeze(1)
            if wanted:
                excess = logps.exp_()
                excess[torch.arange(len(excess)), targets[some]] -= 1
                slopes[some] = -_back(excess, head, hidden.dtype)
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * slope[0][:, None].to(slopes.dtype), None, None


class _Kl(torch.autograd.Function):
    """KL(p_0 || p) = sum of p_0 (log p_0 - log p); its gradient in h is W^T (p - p_0)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, reference: Tensor, head: Head) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        slopes = torch.empty_like(hidden) if wanted else hidden
        values = hidden.new_empty(len(hidden), dtype=torch.float32)
        for some in _spans(len(hidden), head.chunk // 2 or 1):
            now, before = (head.logits(h[some]).float().log_softmax(-1) for h in (hidden, reference))
            was = before.exp()
            values[some] = (was * (before - now)).sum(-1)
            if wanted:
                slopes[some] = _back(now.exp_() - was, head, hidden.dtype)
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * slope[0][:, None].to(slopes.dtype), None, None


def _back(slopes: Tensor, head: Head, dtype: torch.dtype) -> Tensor:
    """(n, V) gradients in logits to (n, d) in hidden states."""
    return (slopes.to(head.weight.dtype) @ head.weight).to(dtype)


def _spans(count: int, size: int) -> Iterator[slice]:
    yield from (slice(at, at + size) for at in range(0, count, size))
