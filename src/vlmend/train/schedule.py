"""Optimizer and learning rate. The rate is a function of the step alone, so nothing of it can get out of step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import Parameter

from vlmend.config import TrainConfig
from vlmend.errors import ConfigError
from vlmend.models.parts import owner

PEAK = "initial_lr"  # of a group whose rate is not `learning_rate`, under the name that torch's schedulers use


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
    """Give the optimizer the rates of step `step`, and return that of `learning_rate`."""
    factor = rate_factor(step, total, warmup_steps(config, total), config.lr_scheduler_type)
    for group in optimizer.param_groups:
        group["lr"] = group.get(PEAK, config.learning_rate) * factor
    return config.learning_rate * factor


def adamw(trained: Mapping[str, Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no biases, no norms. The projector may have a rate of its own.

    Raises ConfigError where it has one and none of its weights are trained.
    """
    own = config.projector_learning_rate
    projector = [name for name in trained if own is not None and owner(name) == "projector"]
    if own is not None and not projector:
        raise ConfigError(f"train.projector_learning_rate is {own:g}, and no weight of a projector is trained")
    rest = [p for name, p in trained.items() if own is None or owner(name) != "projector"]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in some if (p.ndim >= 2) == decays], "weight_decay": config.weight_decay * decays, **peak}
        for some, peak in ((rest, {}), ([trained[name] for name in projector], {PEAK: own}))
        for decays in (True, False)
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )
