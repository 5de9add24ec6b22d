"""What one who trains is told, what it answers, and how time and memory are taken."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shapes import Shape

from tuning.cases import CASES, Case, Unit

BETAS = (0.9, 0.999)
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Job:
    """One row's work. `batch`: units of a forward pass. `settings`: overrides for vlmend, as `a.b=value`. `clock`: of
    the wall, or of the processor, which does not see what else a machine does, nor what is done side by side."""

    case: str
    size: str
    model: Path
    folder: Path
    device: str = "cpu"
    batch: int = 1
    settings: tuple[str, ...] = ()
    clock: str = "wall"

    @property
    def of(self) -> Case:
        """The case."""
        return CASES[self.case]

    @property
    def shape(self) -> Shape:
        """The model's."""
        return self.of.shape(self.size)

    @property
    def workers(self) -> int:
        """Processes that decode pictures ahead: of use where the cores do not train."""
        return 0 if self.device == "cpu" else 4


@dataclass(frozen=True)
class Data:
    """Rows of one round, no picture in two files: one optimizer step to get going (`apart` for who does it in a run of
    its own, `first` for all others), and those that are timed."""

    apart: Path
    first: Path
    timed: Path
    steps: int


@dataclass
class Step:
    """An optimizer step as it was taken: loss, and of every trained weight its value before and its gradient."""

    loss: float = float("nan")
    weights: list[Any] = field(default_factory=list)
    gradients: list[Any] = field(default_factory=list)


class Way(Protocol):
    """One who trains. Made once; then `seconds` of the timed steps of each round. `step` is to compare with others:
    the loss and gradients of one step on all of the rows, from these weights."""

    def seconds(self, data: Data) -> float: ...

    def step(self, rows: Path, weights: Sequence[Any]) -> Step: ...


def groups(units: Sequence[Unit], size: int) -> list[list[Unit]]:
    """One after the other, `size` at a time."""
    return [list(units[at : at + size]) for at in range(0, len(units), size)]


def clock(job: Job) -> float:
    """Seconds, once the device has done what it was told."""
    if job.device != "cpu":
        import torch

        torch.cuda.synchronize()
    return time.process_time() if job.clock == "processor" else time.perf_counter()


def memory(device: str) -> float:
    """Highest since `forget_peak`, in MiB: of the process on a CPU, else what torch held on the device."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    if not STATUS.exists():  # no Linux: highest of all times
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    [line] = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**10


def forget_peak(device: str) -> None:
    """Have the highest be what is held now: imports alone reach higher than they keep."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif STATUS.exists():
        (STATUS.parent / "clear_refs").write_text("5")
