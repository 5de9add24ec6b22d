"""What a long stage says while it works: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vlmend.terminal import say

EVERY_SECONDS = 15.0


class Stages:
    """Progress on stderr. Called with a stage's name and how much of it is done; `quiet` says nothing at all."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self.console, transient=True, disable=quiet or not self.console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._told = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` of a stage is there."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total)
            self._started[stage] = self._told = time.monotonic()
        self._bar.update(self._tasks[stage], completed=done, total=total)
        if not self.console.is_terminal and time.monotonic() - self._told > EVERY_SECONDS and 0 < done < total:
            self._told = time.monotonic()
            left = (self._told - self._started[stage]) / done * (total - done)
            self.say(f"{stage}: {done}/{total}, {left:.0f} s left")

    def say(self, text: str, style: str = "") -> None:
        """One line of news."""
        say(self.console, text, style)
