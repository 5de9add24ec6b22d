"""From a batch to scored tokens: the one place of tuning where the model is called, always with the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlmend.models.codec import Batch
from vlmend.ops.logprobs import IGNORE, answer_logps, places, predicting
from vlmend.ops.scored import Look, Scored, Spots, Totals, Vocabulary
from vlmend.train.layers import capture
from vlmend.train.parallel import Team
from vlmend.types import Role


@dataclass(frozen=True)
class Micro:
    """One forward pass: a batch and its examples' weights; and those examples that the reference scores at once."""

    batch: Batch
    weights: tuple[float, ...]
    compared: Batch | None = None

    def to(self, device: torch.device) -> Micro:
        """The same on another device."""
        compared = self.compared and self.compared.to(device)
        return replace(self, batch=self.batch.to(device), compared=compared)


def count_totals(window: Sequence[Micro], team: Team, look: Look | None = None) -> Totals:
    """Weighted counts per role of supervised tokens, examples and positions that are looked at.

    Over all micro-batches of the step and all processes.
    """
    units = ("tokens", "examples", "spots")
    counts = {f"{unit}/{role}": 0.0 for role in Role for unit in units}
    for micro in window:
        supervised = (micro.batch.labels != IGNORE).sum(dim=1).tolist()
        looked = [0] * len(supervised) if look is None else looked_at(micro.batch, look).sum(dim=1).tolist()
        rows = zip(micro.batch.examples, micro.weights, supervised, looked, strict=True)
        for example, weight, tokens, spots in rows:
            for unit, count in zip(units, (tokens, 1, spots), strict=True):
                counts[f"{unit}/{example.role}"] += weight * count
    total = team.sum(counts)
    return Totals(*({role: total[f"{unit}/{role}"] for role in Role} for unit in units))


def looked_at(batch: Batch, look: Look) -> Tensor:
    """(B, T) the positions an objective wants to see."""
    if look.vocabulary and look.places == "answer":
        mask = predicting(batch.labels)
    else:
        mask = places(look.places, batch.labels, batch.inputs["attention_mask"], batch.image_mask)
    wanted = torch.tensor([example.role in look.roles for example in batch.examples], device=mask.device)
    return mask & wanted[:, None]


def score(
    model: torch.nn.Module,
    batch: Batch,
    weights: Sequence[float],
    totals: Totals,
    look: Look | None = None,
    *,
    bf16: bool = False,
) -> Scored:
    """Log-probabilities of the supervised tokens of one batch, and what else an objective wants to see."""
    device = batch.labels.device
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
    with autocast, capture(model, look.layer if look else None) as seen:
        logits: Tensor = model(**batch.inputs, use_cache=False).logits
    logps, owner = answer_logps(logits, batch.labels)
    spots = _spots(batch, look, logits, seen) if look else None
    weighted = torch.tensor(weights, dtype=torch.float32, device=device)
    return Scored(logps, owner, tuple(e.role for e in batch.examples), weighted, totals, spots)


def _spots(batch: Batch, look: Look, logits: Tensor, seen: Sequence[Tensor]) -> Spots:
    rows, columns = torch.nonzero(looked_at(batch, look), as_tuple=True)
    states = seen[0][rows, columns].float() if seen else None
    return Spots(rows, states, Vocabulary(logits[rows, columns]) if look.vocabulary else None)
