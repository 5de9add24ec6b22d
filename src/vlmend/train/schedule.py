"""Optimizer and learning rate. The rate is a function of the step alone, so nothing of it can get out of step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from vlmend.config import TrainConfig


def rate_factor(step: int, total: int, warmup: int, kind: str) -> float:
    """What the learning rate is multiplied by at step `step` (from 0); exactly 0 once all `total` steps are done.

    Warm-up rises linearly over `warmup` steps and, unlike transformers', wastes no step at rate 0. After it, cosine
    and linear decay are those of transformers. `constant_with_warmup` stays at 1 until the end.
    """
    if step >= total:
        return 0.0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / (total - warmup)
    match kind:
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        case "linear":
            return 1.0 - done
        case _:
            return 1.0


def warmup_steps(config: TrainConfig, total: int) -> int:
    """`warmup_ratio` of all steps, rounded up, but never the whole run."""
    return min(math.ceil(config.warmup_ratio * total), total - 1)


def set_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, total: int) -> float:
    """Give the optimizer the rate of step `step`, and return it."""
    factor = rate_factor(step, total, warmup_steps(config, total), config.lr_scheduler_type)
    rate = config.learning_rate * factor
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def adamw(parameters: Iterable[Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no biases, no norms."""
    trainable = list(parameters)
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )
