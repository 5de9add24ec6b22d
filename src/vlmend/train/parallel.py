"""Processes. The only file that knows how many there are, and the only one that talks between them.

Data parallelism without a wrapper around the model: each process adds up the gradients of its share of the step,
then the shares are summed once. Losses are shares of global means already, so a sum is exact, and a process may
call the model as often as it likes, or leave a module unused, without the others waiting for it.
"""

from __future__ import annotations

import atexit
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.nn import Parameter

from vlmend.config import TrainConfig
from vlmend.errors import ConfigError, VlmendError
from vlmend.models.load import usable
from vlmend.types import digest

BUCKET = 32_000_000  # elements summed in one message
T = TypeVar("T")
ASKED = ("MIXED_PRECISION", "GRADIENT_ACCUMULATION_STEPS", "DYNAMO_BACKEND")
PLAIN = {DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU}


def _device(asked: str, accelerator: Accelerator) -> torch.device:
    """What Accelerate found, or, for a process that works alone, another kind of device that was asked for.

    Raises ConfigError when tuning would run elsewhere than asked: on a CPU for want of a GPU, for one.
    """
    got = accelerator.device
    if asked == "auto":
        return got
    try:
        wanted = torch.device(asked)
    except RuntimeError as error:
        raise ConfigError(f"no device {asked!r}; known: auto, cpu, cuda, cuda:0, mps …") from error
    count = accelerator.num_processes
    alone = count == 1
    if ":" in asked and not alone:
        raise ConfigError(f"device {asked!r} is one, and {count} processes tune; model.device={wanted.type} is all")
    if wanted.type == got.type and (not alone or asked in (got.type, f"{got.type}:{got.index or 0}")):
        return got
    if wanted.type != got.type and alone and usable(wanted):
        return wanted
    raise ConfigError(f"device {asked!r} is not what there is to tune on: {got} (CUDA_VISIBLE_DEVICES chooses one)")


def _refuse_settings_elsewhere(config: TrainConfig) -> None:
    """Raise ConfigError for what `accelerate launch` or the environment asks of a run and the recipe does not.

    A recipe is the record of a run: what is not in it must not decide what comes out, nor be passed over in silence.
    """
    asked = {name: os.environ.get(f"ACCELERATE_{name}", "") for name in ASKED}
    precision, steps, backend = (asked[name].lower() for name in ASKED)
    if precision not in ("", "no") and not (precision == "bf16" and config.bf16):
        known = "train.bf16=true does that" if precision == "bf16" else "model.dtype and train.bf16 are what there is"
        raise ConfigError(
            f"accelerate asks for mixed precision {precision}, and the recipe does not: {known}; or launch with"
            " --mixed_precision no"
        )
    if steps not in ("", "auto", "1", str(config.gradient_accumulation_steps)):
        raise ConfigError(
            f"accelerate asks for {steps} gradient accumulation steps, and the recipe for"
            f" {config.gradient_accumulation_steps}: train.gradient_accumulation_steps={steps} does that"
        )
    if backend not in ("", "no"):
        raise ConfigError(f"accelerate asks for the dynamo backend {backend}, and tuning compiles nothing; drop it")


@atexit.register
def _leave() -> None:
    """Stop gloo's threads before the interpreter goes: what is left of them then may abort a process that was done.

    Nothing to do for NCCL, which has its own way out and, asked to leave, may wait for a process that has failed.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is the process that speaks for all."""
    return PartialState().is_main_process


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them."""

    accelerator: Accelerator
    device: torch.device  # where this process computes

    @classmethod
    def gather(cls, *, device: str = "auto", config: TrainConfig | None = None, folder: Path = Path()) -> Team:
        """Join the processes that `accelerate launch` started, or work alone.

        Raises ConfigError for settings of accelerate's that a run would not follow, and for a device it would not use.
        """
        config = config or TrainConfig()
        _refuse_settings_elsewhere(config)
        trackers = None if config.report_to == "none" else config.report_to
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", log_with=trackers, project_dir=str(folder))
        if accelerator.distributed_type not in PLAIN:
            kind = accelerator.distributed_type.value
            raise ConfigError(f"tuning under {kind} is not supported; launch it with --multi_gpu or as one process")
        if trackers and not accelerator.log_with:
            raise ConfigError(f"train.report_to names {trackers}, which is not installed: pip install {trackers}")
        return cls(accelerator, _device(device, accelerator))

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.accelerator.num_processes

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return self.accelerator.process_index

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.accelerator.is_main_process

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()

    def first(self, work: Callable[[], T]) -> T:
        """What the first process makes of it, for all, or the error that it raises, in all.

        For whatever is decided by looking at files: another process may look when the first has written already.
        """
        if self.size == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except (VlmendError, OSError) as error:
                outcome[1] = error
        torch.distributed.broadcast_object_list(outcome, src=0, device=self.device)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def collect(self, mine: T) -> list[T]:
        """What each process has, in their order."""
        found: list[Any] = [mine]
        if self.size > 1:
            found *= self.size
            torch.distributed.all_gather_object(found, mine)
        return found

    def together(self, work: Callable[[], T]) -> T:
        """What this process makes of its share, or in all of them the error that the first to fail raises.

        For work that goes wrong in one process alone: the others would wait for it for ever.
        """
        if self.size == 1:
            return work()
        done: list[T] = []
        failed: Exception | None = None
        try:
            done.append(work())
        except (VlmendError, OSError) as error:
            failed = error
        for error in self.collect(failed):
            if error is not None:
                raise error
        return done[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return self.sum({"flag": float(flag)})["flag"] > 0

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Named numbers added up over processes; all must name the same."""
        names = sorted(values)
        if self.size == 1:
            return {name: values[name] for name in names}
        mine = torch.tensor([values[name] for name in names], dtype=torch.float64)
        bits = mine.view(torch.int32).to(self.device)  # not every device knows float64
        shares = [torch.empty_like(bits) for _ in range(self.size)]
        torch.distributed.all_gather(shares, bits)
        total = torch.stack([share.cpu().view(torch.float64) for share in shares]).sum(dim=0)
        return dict(zip(names, total.tolist(), strict=True))

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Add up `.grad` over processes, in place. A parameter that no process used keeps no gradient."""
        if self.size == 1:
            return
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=self.device)
        torch.distributed.all_reduce(used)
        gradients: list[Tensor] = []
        for parameter, count in zip(parameters, used.tolist(), strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            torch.distributed.all_reduce(flat)
            for gradient, piece in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(piece.view_as(gradient))

    def share(self, parameters: Iterable[Parameter]) -> None:
        """Give every process the weights of the first."""
        if self.size > 1:
            for parameter in parameters:
                torch.distributed.broadcast(parameter.data, src=0)


def _buckets(gradients: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Neighbours of one dtype, together at most BUCKET elements (or one tensor)."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        full = sum(g.numel() for g in bucket) + gradient.numel() > BUCKET
        if bucket and (full or bucket[0].dtype != gradient.dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def seed_everything(*parts: int | str) -> None:
    """Seed python, numpy and torch (all devices) by a hash of `parts`.

    Called at every step with (seed, step, rank): dropout then needs no saved generator state to be resumed exactly.
    """
    seed = int(digest(*parts)[:8], 16)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
