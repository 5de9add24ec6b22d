"""The seam: what an objective sees. Log-probabilities of supervised tokens, never logits, padding or packing.

The training loop makes one `Scored` per forward pass. All means are over the whole optimizer step (every
micro-batch of every process), which is why their denominators come in as `Totals` and are not counted here:
accumulating k micro-batches then gives the gradient of one batch k times as large, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlmend.types import Role


@dataclass(frozen=True)
class Totals:
    """Weighted counts per role over a whole optimizer step, all processes: the denominators of every mean."""

    tokens: Mapping[Role, float]
    examples: Mapping[Role, float]

    def of(self, unit: Mapping[Role, float], role: Role | None) -> float:
        """The count of one role, or of all."""
        return sum(unit.values()) if role is None else unit.get(role, 0.0)


@dataclass(frozen=True)
class Scored:
    """The supervised tokens of E examples, flat: N tokens, `owner[i]` is the example token i belongs to.

    `logps` (N,) are natural-log probabilities in fp32, each of the token given all before it and the pictures.
    `weights` (E,) multiply an example's tokens and the example itself in every mean.
    """

    logps: Tensor
    owner: Tensor
    roles: tuple[Role, ...]
    weights: Tensor
    totals: Totals
    hidden: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def _member(self, role: Role | None) -> Tensor:
        """(E,) weight of each example if it has the role, else 0."""
        if role is None:
            return self.weights
        has = torch.tensor([r == role for r in self.roles], device=self.weights.device)
        return self.weights * has

    def per_example(self, values: Tensor) -> Tensor:
        """(N,) token values to (E,) sums."""
        return torch.zeros(len(self.roles), dtype=values.dtype, device=values.device).index_add(0, self.owner, values)

    def token_mean(self, values: Tensor, role: Role | None = None) -> Tensor:
        """Weighted mean of (N,) token values over the step's tokens; this call's share of it. 0 when there are none."""
        total = self.totals.of(self.totals.tokens, role)
        share = (values * self._member(role)[self.owner]).sum()
        return share / total if total else share * 0.0

    def example_mean(self, values: Tensor, role: Role | None = None) -> Tensor:
        """Weighted mean of (E,) example values over the step's examples; this call's share of it."""
        total = self.totals.of(self.totals.examples, role)
        share = (values * self._member(role)).sum()
        return share / total if total else share * 0.0


@dataclass(frozen=True)
class Loss:
    """What to minimise, and its parts for the log (detached; shares that sum to the step's value)."""

    total: Tensor
    parts: Mapping[str, Tensor]
