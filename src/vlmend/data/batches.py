"""Which examples each process sees at each optimizer step: a pure function of seed, epoch and step.

The global order never depends on the number of processes, and any step can be computed without the ones before it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Plan:
    """How `count` examples become optimizer steps: each takes the next `examples_per_step` of the epoch's order."""

    count: int
    batch_size: int  # examples of one forward pass of one process
    accumulation: int = 1  # forward passes of one process in one step
    processes: int = 1
    seed: int = 0

    @property
    def examples_per_step(self) -> int:
        """Examples of one full step, over all processes."""
        return self.batch_size * self.accumulation * self.processes

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be smaller; none is dropped."""
        return math.ceil(self.count / self.examples_per_step)

    def total_steps(self, epochs: float, max_steps: int = -1) -> int:
        """Optimizer steps of the whole run, the same on every process."""
        return max_steps if max_steps > 0 else max(1, math.ceil(epochs * self.steps_per_epoch))

    def step(self, step: int) -> Sequence[int]:
        """Indices of all examples of step `step` (from 0), in their global order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.examples_per_step
        return _order(self.count, self.seed, epoch)[start : start + self.examples_per_step]

    def window(self, step: int, process: int) -> list[Sequence[int]]:
        """The forward passes of one process in one step.

        Every process gets the same number of passes, of sizes that differ by at most one; a pass is empty only
        when the step has fewer examples than there are processes.
        """
        indices = self.step(step)
        passes = math.ceil(len(indices) / (self.batch_size * self.processes))
        parts = split_evenly(indices, passes * self.processes)
        return parts[process :: self.processes]


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def split_evenly(items: Sequence[int], parts: int) -> list[Sequence[int]]:
    """Cut into `parts` consecutive pieces whose sizes differ by at most one, the longer ones first."""
    size, longer = divmod(len(items), parts)
    bounds = [i * size + min(i, longer) for i in range(parts + 1)]
    return [items[a:b] for a, b in itertools.pairwise(bounds)]
