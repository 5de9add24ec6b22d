"""The one loop: encode a step's share, count, score, differentiate, sum over processes, clip, update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch.nn import Parameter

from vlmend.config import TrainConfig
from vlmend.data.batches import Plan
from vlmend.errors import ModelError
from vlmend.models.codec import Codec
from vlmend.objectives import Objective, Stops, Surveys, innermost
from vlmend.ops.scored import Look, Loss, Scored, Totals
from vlmend.train.checkpoint import Progress
from vlmend.train.encoding import Encoder
from vlmend.train.mask_report import check_mask
from vlmend.train.parallel import Team, seed_everything
from vlmend.train.reference import Live, Reference
from vlmend.train.schedule import set_rate
from vlmend.train.scoring import Forward, Micro, count_totals
from vlmend.train.speed import Ways
from vlmend.types import Example, Role

SUM, COUNT = "rollouts/", "rollouts#/"  # before the names of numbers that have counts of their own, and of the counts


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
    ways: Ways = field(default_factory=Ways)
    reference: Reference | None = None
    progress: Progress = field(default_factory=Progress)
    valuer: torch.nn.Module | None = None  # the head of one number, where the objective looks with one
    head: torch.nn.Linear | None = None  # reads what is to come off hidden states, where the objective has one

    @cached_property
    def encoder(self) -> Encoder:
        """What makes passes of examples. To be asked for once it is known what the reference is."""
        needs, live = self.objective.needs, isinstance(self.reference, Live)
        return Encoder(self.model, self.codec, self.ways, needs, self.config.max_length, live)

    @cached_property
    def forward(self) -> Forward:
        """What scores passes."""
        needs = self.objective.needs
        made = forward(self.model, self.ways, needs.look, needs.tokens)
        return replace(
            made, valuer=self.valuer, numbers=needs.numbers, temperature=needs.temperature, hidden=needs.heads > 0
        )

    @cached_property
    def before(self) -> Forward:
        """What scores passes as the reference, once the model is put back to what it was."""
        needs = self.objective.needs
        made = forward(self.model, self.ways, needs.look, frozenset() if needs.states_only else None)
        return replace(made, temperature=needs.temperature)


def forward(
    model: torch.nn.Module, ways: Ways, look: Look | None = None, told: frozenset[Role] | None = None
) -> Forward:
    """What scores passes of a run, of the model as it is at the time."""
    return Forward(model, look, told, ways.narrow, ways.head, ways.features, ways.autocast)


@dataclass(frozen=True)
class Hooks:
    """What happens around steps: at each logging step, after each (its loss), and when a checkpoint is due."""

    step: Callable[[int, float], None]
    log: Callable[[dict[str, Any]], None]
    save: Callable[[], None]
    interrupted: Callable[[], bool]


Work = Callable[[], dict[str, float]]  # what is done of a run at once; returns its numbers by name


def optimize(run: Tuning, hooks: Hooks, steps: Iterable[Work] | None = None) -> bool:
    """Do all remaining steps, or as many as the objective wants. False when it was interrupted; that is saved then."""
    run.model.train()
    began = time.monotonic()
    for step in steps or (partial(take_step, run, window) for window in ahead(run)):
        rate = set_rate(run.optimizer, run.config, run.progress.step, run.total)
        values = step()
        interrupted, now = run.team.any(hooks.interrupted()), time.monotonic()
        _note(run.progress, values, now - began)
        began = now
        run.progress.enough = _enough(run, values)
        last = run.progress.step == run.total or run.progress.enough != ""
        if run.progress.step % run.config.logging_steps == 0 or last:
            hooks.log(_entry(run, rate))
        hooks.step(run.progress.step, values["loss"])
        stop = interrupted and not last
        due = run.config.save_steps > 0 and run.progress.step % run.config.save_steps == 0
        if stop or due:
            hooks.save()
        if stop:
            return False
        if last:
            break
    set_rate(run.optimizer, run.config, run.total, run.total)
    return True


def encode(run: Tuning, step: int) -> list[Micro]:
    """This process's forward passes of one step, on the CPU, their masks checked.

    A process without an example of its own gets one of weight 0, so that all make the same calls.
    """
    window: list[Micro] = []
    for indices in _passes(run, step):
        shown = indices or run.plan.step(step)[0]
        weights = [run.weights[i] if indices else 0.0 for i in shown]
        micro = run.encoder([run.examples[i] for i in shown], weights)
        check_mask(micro.batch)
        window.append(micro)
    return window


def _passes(run: Tuning, step: int) -> list[list[int]]:
    """Which examples go through the model together."""
    passes, tokens = run.plan.window(step, run.team.rank), run.ways.tokens_per_pass
    if tokens is None or not any(passes):
        return passes
    return list(run.encoder.within(run.plan.share(step, run.team.rank), run.examples, tokens))


def remaining(run: Tuning) -> range:
    """The steps still to do, of which there are none once the objective has enough."""
    return range(run.progress.step, run.total if not run.progress.enough else run.progress.step)


def ahead(run: Tuning) -> Iterator[list[Micro]]:
    """The windows of all remaining steps. While one is computed the next is encoded."""
    steps = remaining(run)
    with ThreadPoolExecutor(1, "encode") as pool:
        coming = pool.submit(encode, run, steps[0]) if steps else None
        for step in steps:
            assert coming is not None  # noqa: S101
            window = coming.result()
            if step + 1 < run.total:
                coming = pool.submit(encode, run, step + 1)
            yield window


def take_step(run: Tuning, window: Sequence[Micro]) -> dict[str, float]:
    """One optimizer step on the passes of a window."""
    return update(run, lambda: accumulate(run, window))


def update(run: Tuning, work: Work) -> dict[str, float]:
    """One update by the gradients that `work` adds up. Returns the numbers it gives, summed over processes, such as the
    loss, its parts and tokens, and the gradient's norm.

    Where gradients are too large for fp16 the same is done again with a loss of half the size.
    """
    while True:
        seed_everything(run.config.seed, run.progress.step, run.team.rank)
        values = run.team.sum(work())
        norm = _gather_gradients(run)
        if math.isfinite(norm) or run.progress.scale <= 1:
            break
        run.optimizer.zero_grad(set_to_none=True)
        run.progress.scale /= 2
    if not math.isfinite(norm) or not all(map(math.isfinite, values.values())):
        raise ModelError(
            f"loss or gradient is not finite at step {run.progress.step + 1} (loss {values['loss']}, gradient norm"
            f" {norm}); nothing was updated: a lower learning_rate or dtype float32 may help"
        )
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return {**values, "grad_norm": norm}


def _gather_gradients(run: Tuning) -> float:
    """Sum the gradients over processes, take out what the loss was multiplied by, and clip. The norm before that."""
    parameters = list(run.trained.values())
    run.team.sum_gradients(parameters)
    if run.progress.scale != 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(run.progress.scale)
    return float(torch.nn.utils.clip_grad_norm_(parameters, run.config.max_grad_norm))


def accumulate(run: Tuning, window: Sequence[Micro]) -> dict[str, float]:
    """Add up the gradients of a window. Losses are shares of the whole step's means, so plain addition is right."""
    totals = count_totals(window, run.team, run.objective.needs.look)
    if run.objective.needs.survey and (len(window) > 1 or run.team.size > 1):
        totals = replace(totals, surveyed=survey(run, window, totals))
    values: dict[str, float] = {"loss": 0.0, "tokens": 0.0}
    for micro in window:
        real = float(micro.batch.inputs["attention_mask"].sum()) if any(micro.weights) else 0.0
        loss = compute_loss(run, micro.to(run.team.device), totals)
        (loss.total * run.progress.scale).backward()
        shares = {"loss": loss.total, **{f"parts/{name}": part for name, part in loss.parts.items()}}
        for name, share in shares.items():
            values[name] = values.get(name, 0.0) + float(share.detach())
        values["tokens"] += real
    return values


def survey(run: Tuning, window: Sequence[Micro], totals: Totals) -> dict[str, float]:
    """Numbers of the whole step that the objective's loss takes, by a pass of all that gets no gradient."""
    objective = innermost(run.objective)
    if not isinstance(objective, Surveys):
        raise TypeError(f"{type(objective).__name__} needs a survey and has no such method")
    found: dict[str, float] = {}
    with torch.no_grad():
        for micro in window:
            for name, share in objective.survey(*score(run, micro.to(run.team.device), totals)).items():
                found[name] = found.get(name, 0.0) + float(share)
    return run.team.sum(found)


def compute_loss(run: Tuning, micro: Micro, totals: Totals) -> Loss:
    """Score, and reduce."""
    return run.objective(*score(run, micro, totals))


def score(run: Tuning, micro: Micro, totals: Totals) -> tuple[Scored, Scored | None]:
    """Score with the model before tuning where the objective asks for it, then with the model: policy and reference."""
    needs = run.objective.needs
    before = run.reference(micro, totals) if run.reference else None
    policy = replace(run.forward(micro, totals), named=needs.roles)
    if needs.reference and before is None:  # none of these examples is compared
        before = policy.only(*needs.reference)
    return policy, before and replace(before, named=needs.reference)


def _enough(run: Tuning, values: Mapping[str, float]) -> str:
    """Why the objective wants no further step; empty when it does."""
    objective = innermost(run.objective)
    if not isinstance(objective, Stops):
        return ""
    return objective.reason_to_stop({name[6:]: v for name, v in values.items() if name.startswith("parts/")})


def _note(progress: Progress, values: Mapping[str, float], seconds: float) -> None:
    """Count the step that was just taken."""
    progress.step += 1
    progress.seconds += seconds
    progress.tokens += int(values["tokens"])
    for name, value in {**values, "steps": 1.0, "seconds": seconds}.items():
        progress.since_log[name] = progress.since_log.get(name, 0.0) + value


def _entry(run: Tuning, rate: float) -> dict[str, Any]:
    """The log entry of this step: means over the steps since the last one, of what has a count of its own by that."""
    progress, sums = run.progress, run.progress.since_log
    progress.since_log = {}
    mean = {name: value / sums["steps"] for name, value in sums.items()}
    counted = {n[len(COUNT) :]: c for n, c in sums.items() if n.startswith(COUNT) and c}
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
        **({"rollouts": {name: sums[SUM + name] / c for name, c in sorted(counted.items())}} if counted else {}),
    }
