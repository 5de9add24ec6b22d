"""Muon for small matrices on a CPU: the orthogonalized momentum of Jordan et al. 2024, in float32 and in stacks.

torch's own class works in bfloat16, matrix by matrix, which many CPUs emulate at a hundredth of the speed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(stack: Tensor, iterations: int = 5) -> Tensor:
    """Each (R, C) matrix of the stack (K, R, C) with its singular values moved near 1, by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.mT if tall else x


def orthogonalized_together(stack: Tensor) -> Tensor:
    """The same, each process doing its share of the matrices."""
    if not dist.is_initialized():
        return orthogonalized(stack)
    rank, size = dist.get_rank(), dist.get_world_size()
    whole = torch.zeros_like(stack)
    whole[rank::size] = orthogonalized(stack[rank::size])
    dist.all_reduce(whole)
    return whole


class Muon(torch.optim.Optimizer):
    """Steps of one size in every direction: W <- (1 - lr * decay) W - lr * sqrt(max(1, R / C)) * orthogonalized(m)."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float, weight_decay: float) -> None:
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every matrix (a convolution is one, too); those of one shape go through the iteration together."""
        del closure
        for group in self.param_groups:
            shapes: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                stack = torch.stack([self._velocity(matrix, group["momentum"]).flatten(1) for matrix in matrices])
                updates = orthogonalized_together(stack).unflatten(2, shape[1:])
                scale = group["lr"] * max(1.0, shape[0] / stack.shape[2]) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)

    def _velocity(self, matrix: Tensor, momentum: float) -> Tensor:
        """Nesterov's look-ahead at the running mean of gradients."""
        gradient = torch.zeros_like(matrix) if matrix.grad is None else matrix.grad
        mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
        mean.lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)
