"""From a batch to scored tokens: the one place of tuning where the model is called, always with the whole batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel

from vlmend.errors import ConfigError
from vlmend.models.codec import Batch
from vlmend.ops.logprobs import IGNORE, answer_logps
from vlmend.ops.scored import Scored, Totals
from vlmend.train.parallel import Team
from vlmend.types import Role


@dataclass(frozen=True)
class Micro:
    """One forward pass: a batch and its examples' weights."""

    batch: Batch
    weights: tuple[float, ...]

    def to(self, device: torch.device) -> Micro:
        """The same on another device."""
        return replace(self, batch=self.batch.to(device))


def count_totals(window: Sequence[Micro], team: Team) -> Totals:
    """Weighted supervised tokens and examples per role, over all micro-batches of the step and all processes."""
    counts = {f"{unit}/{role}": 0.0 for role in Role for unit in ("tokens", "examples")}
    for micro in window:
        supervised = (micro.batch.labels != IGNORE).sum(dim=1).tolist()
        for example, weight, tokens in zip(micro.batch.examples, micro.weights, supervised, strict=True):
            counts[f"tokens/{example.role}"] += weight * tokens
            counts[f"examples/{example.role}"] += weight
    total = team.sum(counts)
    return Totals(*({role: total[f"{unit}/{role}"] for role in Role} for unit in ("tokens", "examples")))


def score(model: torch.nn.Module, micro: Micro, totals: Totals, *, bf16: bool = False) -> Scored:
    """Log-probabilities of the supervised tokens of one batch."""
    batch = micro.batch
    device = batch.labels.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        logits = model(**batch.inputs, use_cache=False).logits
    logps, owner = answer_logps(logits, batch.labels)
    weights = torch.tensor(micro.weights, dtype=torch.float32, device=device)
    return Scored(logps, owner, tuple(e.role for e in batch.examples), weights, totals)


@contextmanager
def untuned(model: torch.nn.Module) -> Generator[torch.nn.Module]:
    """The model as it was before tuning: adapter off, no dropout, no gradients. Needs no second copy."""
    if not isinstance(model, PeftModel):
        raise ConfigError("this method compares with the untuned model, which needs model.tune: lora")
    training = model.training
    adapter: Any = model
    with adapter.disable_adapter(), torch.no_grad():
        model.eval()
        try:
            yield model
        finally:
            model.train(training)
