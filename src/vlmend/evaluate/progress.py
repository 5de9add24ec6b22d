"""What a long stage says while it works: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from vlmend.pace import Pace, spelled
from vlmend.terminal import say


class Stages:
    """Progress on stderr. Called with a stage's name and how much of it is done; `quiet` says nothing at all."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"),
            console=self.console, transient=True, disable=quiet or not self.console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}

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
            self._tasks[stage] = self._bar.add_task(stage, total=total, left="")
            self._paces[stage] = Pace(done)
            self._paces[stage].due()  # how a stage begins is no news
        pace = self._paces[stage]
        left = spelled(pace.left(done, total))
        self._bar.update(self._tasks[stage], completed=done, total=total, left=left)
        if not self.console.is_terminal and 0 < done < total and pace.due():
            self.say(", ".join(filter(None, (f"{stage}: {done}/{total}", left))))

    def say(self, text: str, style: str = "") -> None:
        """One line of news."""
        say(self.console, text, style)
