"""Processes. The only file that knows how many there are, and the only one that talks between them.

Data parallelism without a wrapper around the model: each process adds up the gradients of its share of the step,
then the shares are summed once. Losses are shares of global means already, so a sum is exact, and a process may
call the model as often as it likes, or leave a module unused, without the others waiting for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.nn import Parameter

from vlmend.errors import ConfigError
from vlmend.models.load import usable
from vlmend.types import digest

BUCKET = 32_000_000  # elements summed in one message
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
    alone = accelerator.num_processes == 1
    if wanted.type == got.type and (not alone or asked in (got.type, f"{got.type}:{got.index or 0}")):
        return got
    if wanted.type != got.type and alone and usable(wanted):
        return wanted
    raise ConfigError(f"device {asked!r} is not what there is to tune on: {got} (CUDA_VISIBLE_DEVICES chooses one)")


def is_first() -> bool:
    """Whether this is the process that speaks for all."""
    return PartialState().is_main_process


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them."""

    accelerator: Accelerator
    device: torch.device  # where this process computes

    @classmethod
    def gather(cls, *, device: str = "auto", report_to: str = "none", folder: Path = Path()) -> Team:
        """Join the processes that `accelerate launch` started, or work alone."""
        trackers = None if report_to == "none" else report_to
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", log_with=trackers, project_dir=str(folder))
        if accelerator.distributed_type not in PLAIN:
            kind = accelerator.distributed_type.value
            raise ConfigError(f"tuning under {kind} is not supported; launch it with --multi_gpu or as one process")
        if trackers and not accelerator.log_with:
            raise ConfigError(f"train.report_to names {report_to}, which is not installed: pip install {report_to}")
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
