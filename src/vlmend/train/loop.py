"""The one loop: encode a step's share, count, score, differentiate, sum over processes, clip, update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import Parameter

from vlmend.config import TrainConfig
from vlmend.data.batches import Plan
from vlmend.errors import ModelError
from vlmend.models.codec import Codec
from vlmend.objectives import Objective
from vlmend.ops.scored import Loss, Totals
from vlmend.train.checkpoint import Progress
from vlmend.train.mask_report import check_mask
from vlmend.train.parallel import Team, seed_everything
from vlmend.train.schedule import set_rate
from vlmend.train.scoring import Micro, count_totals, score, untuned
from vlmend.types import Example


@dataclass
class Tuning:
    """Everything one run consists of, and how far it is."""

    model: torch.nn.Module
    codec: Codec
    objective: Objective
    examples: Sequence[Example]
    weights: Sequence[float]
    plan: Plan
    config: TrainConfig
    team: Team
    trained: Mapping[str, Parameter]
    optimizer: torch.optim.Optimizer
    total: int  # optimizer steps of the whole run
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class Hooks:
    """What happens around steps: after each, at each logging step, and when a checkpoint is due."""

    step: Callable[[int], None]
    log: Callable[[dict[str, Any]], None]
    save: Callable[[], None]
    interrupted: Callable[[], bool]


def optimize(run: Tuning, hooks: Hooks) -> bool:
    """Do all remaining steps. False when it was asked to stop before the end; what was done is saved then."""
    run.model.train()
    began = time.monotonic()
    for window in ahead(run):
        rate = set_rate(run.optimizer, run.config, run.progress.step, run.total)
        values = {**take_step(run, window), "stop": float(hooks.interrupted())}
        values, now = run.team.sum(values), time.monotonic()
        _note(run.progress, values, now - began)
        began = now
        hooks.step(run.progress.step)
        if run.progress.step % run.config.logging_steps == 0 or run.progress.step == run.total:
            hooks.log(_entry(run, rate))
        stop = values["stop"] > 0 and run.progress.step < run.total
        due = run.config.save_steps > 0 and run.progress.step % run.config.save_steps == 0
        if stop or due:
            hooks.save()
        if stop:
            return False
    set_rate(run.optimizer, run.config, run.total, run.total)
    return True


def encode(run: Tuning, step: int) -> list[Micro]:
    """This process's forward passes of one step, on the CPU, their masks checked.

    A process without an example of its own gets one of weight 0, so that all make the same calls.
    """
    window: list[Micro] = []
    for indices in run.plan.window(step, run.team.rank):
        shown = indices or run.plan.step(step)[:1]
        batch = run.codec.encode_training([run.examples[i] for i in shown], run.config.max_length)
        check_mask(batch)
        window.append(Micro(batch, tuple(run.weights[i] if indices else 0.0 for i in shown)))
    return window


def ahead(run: Tuning) -> Iterator[list[Micro]]:
    """The windows of all remaining steps; while one is computed the next is encoded."""
    steps = range(run.progress.step, run.total)
    with ThreadPoolExecutor(1, "encode") as pool:
        coming = pool.submit(encode, run, steps[0]) if steps else None
        for step in steps:
            assert coming is not None  # noqa: S101
            window = coming.result()
            if step + 1 < run.total:
                coming = pool.submit(encode, run, step + 1)
            yield window


def take_step(run: Tuning, window: Sequence[Micro]) -> dict[str, float]:
    """One optimizer step. Returns this process's shares of loss, parts and tokens, and the gradient's norm."""
    seed_everything(run.config.seed, run.progress.step, run.team.rank)
    values = accumulate(run, window)
    parameters = list(run.trained.values())
    run.team.sum_gradients(parameters)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, run.config.max_grad_norm))
    if not math.isfinite(norm) or not all(map(math.isfinite, values.values())):
        raise ModelError(
            f"loss or gradient is not finite at step {run.progress.step + 1} (loss {values['loss']}, gradient norm"
            f" {norm}); nothing was updated: a lower learning_rate or dtype float32 may help"
        )
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return {**values, "grad_norm": norm / run.team.size}


def accumulate(run: Tuning, window: Sequence[Micro]) -> dict[str, float]:
    """Add up the gradients of a window. Losses are shares of the whole step's means, so plain addition is right."""
    totals = count_totals(window, run.team)
    values: dict[str, float] = {"loss": 0.0, "tokens": 0.0}
    for micro in window:
        real = float(micro.batch.inputs["attention_mask"].sum()) if any(micro.weights) else 0.0
        loss = compute_loss(run, micro.to(run.team.device), totals)
        loss.total.backward()
        shares = {"loss": loss.total, **{f"parts/{name}": part for name, part in loss.parts.items()}}
        for name, share in shares.items():
            values[name] = values.get(name, 0.0) + float(share.detach())
        values["tokens"] += real
    return values


def compute_loss(run: Tuning, micro: Micro, totals: Totals) -> Loss:
    """Score with the untuned model where the objective asks for it, then with the model, and reduce."""
    reference = None
    if run.objective.needs_reference:
        with untuned(run.model) as model:
            reference = score(model, micro, totals, bf16=run.config.bf16)
    return run.objective(score(run.model, micro, totals, bf16=run.config.bf16), reference)


def _note(progress: Progress, values: Mapping[str, float], seconds: float) -> None:
    """Count the step that was just taken."""
    progress.step += 1
    progress.seconds += seconds
    progress.tokens += int(values["tokens"])
    for name, value in {**values, "steps": 1.0, "seconds": seconds}.items():
        progress.since_log[name] = progress.since_log.get(name, 0.0) + value


def _entry(run: Tuning, rate: float) -> dict[str, Any]:
    """The log entry of this step: means over the steps since the last one."""
    progress, sums = run.progress, run.progress.since_log
    progress.since_log = {}
    mean = {name: value / sums["steps"] for name, value in sums.items()}
    progress.loss = mean["loss"]
    return {
        "step": progress.step,
        "epoch": round(progress.step / run.plan.steps_per_epoch, 4),
        "loss": mean["loss"],
        "parts": {name[6:]: value for name, value in mean.items() if name.startswith("parts/")},
        "lr": rate,
        "grad_norm": mean["grad_norm"],
        "tokens_per_second": sums["tokens"] / max(sums["seconds"], 1e-9),
        "seconds": progress.seconds,
    }
