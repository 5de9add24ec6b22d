"""From hidden states to log-probabilities through a language-model head, a few positions at a time.

The head multiplies d numbers by a (V, d) matrix; V is a hundred times the rest. Neither logits of all positions nor
their gradients exist at once: where the head is frozen, what the backward pass will need of a position is d numbers,
and they are computed while its logits are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

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
        """(..., V), in the precision of the weight."""
        return F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)

    def now(self) -> Head:
        """The same numbers for good: without a gradient, whatever is put in the parameters' place later."""
        return Head(self.weight.detach(), None if self.bias is None else self.bias.detach())

    def over(self, temperature: float) -> Head:
        """What makes logits over the temperature of hidden states over it."""
        return self if self.bias is None else Head(self.weight, self.bias / temperature)

    @property
    def frozen(self) -> bool:
        """Whether it takes no gradient."""
        return not (self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))

    @property
    def chunk(self) -> int:
        """Positions whose logits may exist at once."""
        return max(1, ELEMENTS // self.weight.shape[0])


def logps_of(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) log p in fp32 of targets (N,) under logits (N, V)."""
    return -F.cross_entropy(logits.float(), targets, reduction="none")


def token_logps(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """(N,) natural-log probabilities in fp32 of targets (N,) given hidden states (N, d).

    log p(y | h) = z_y - log sum of exp z, z = W h; its gradient in h is (W_y - sum of p_v W_v).
    """

    def through(states: Tensor, wanted: Tensor) -> Tensor:
        return logps_of(head.logits(states), wanted)

    def at_once(some: slice, sloped: bool) -> Piece:
        logps = head.logits(hidden[some]).float().log_softmax(-1)
        values = logps.gather(1, targets[some, None]).squeeze(1)
        if not sloped:
            return values, None
        excess = logps.exp_()
        excess[torch.arange(len(excess), device=excess.device), targets[some]] -= 1
        return values, -_back(excess, head)

    if head.frozen:
        return _pieced(hidden, head.chunk, at_once)
    pieces = list(zip(hidden.split(head.chunk), targets.split(head.chunk), strict=True))
    if len(pieces) == 1:
        return through(*pieces[0])
    return torch.cat([checkpoint(through, *piece, use_reentrant=False) for piece in pieces])


def kl(hidden: Tensor, reference: Tensor, head: Head, before: Head) -> Tensor:
    """(M,) KL(p_0 || p): p_0 is what the head `before` makes of states (M, d) of then, p what `head` makes of now's.

    KL = sum of p_0 (log p_0 - log p); its gradient in h is W^T (p - p_0). No gradient goes to what was before.
    """
    size = head.chunk // 2 or 1

    def distributions(states: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
        return head.logits(states).float().log_softmax(-1), before.logits(then).float().log_softmax(-1)

    def through(states: Tensor, then: Tensor) -> Tensor:
        now, was = distributions(states, then)
        return (was.exp() * (was - now)).sum(-1)

    def at_once(some: slice, sloped: bool) -> Piece:
        now, was = distributions(hidden[some], reference[some])
        share = was.exp()
        values = (share * (was - now)).sum(-1)
        return values, _back(now.exp_() - share, head) if sloped else None

    before, reference = before.now(), reference.detach()
    if head.frozen:
        return _pieced(hidden, size, at_once)
    pieces = zip(hidden.split(size), reference.split(size), strict=True)
    return torch.cat([checkpoint(through, *piece, use_reentrant=False) for piece in pieces])


Piece = tuple[Tensor, Tensor | None]  # values (n,) at some positions, and their slopes in the hidden states (n, d)


def _pieced(hidden: Tensor, size: int, at_once: Callable[[slice, bool], Piece]) -> Tensor:
    """(N,) values of all positions, `size` at a time."""
    return cast(Tensor, _Pieced.apply(hidden, size, at_once))


class _Pieced(torch.autograd.Function):
    """A number for each position, whose slope in the hidden state is computed with it and kept for the way back."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, size: int, at_once: Callable[[slice, bool], Piece]) -> Tensor:
        sloped = ctx.needs_input_grad[0]
        slopes = torch.empty_like(hidden) if sloped else hidden
        values = hidden.new_empty(len(hidden), dtype=torch.float32)
        for start in range(0, len(hidden), size):
            some = slice(start, start + size)
            values[some], slope = at_once(some, sloped)
            if slope is not None:
                slopes[some] = slope
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * slope[0][:, None].to(slopes.dtype), None, None


def _back(slopes: Tensor, head: Head) -> Tensor:
    """(n, V) gradients in logits to (n, d) in hidden states."""
    return slopes.to(head.weight.dtype) @ head.weight
