"""A sign of life while data are read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS = 2.0  # nothing is said about what takes less
EVERY_SECONDS = 15.0


def watched(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, with a count on stderr once they take longer than two seconds; a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    text = TextColumn(what + " {task.completed:,.0f}")
    bar = Progress(text, BarColumn(), TimeElapsedColumn(), console=console, transient=True)
    terminal = console.is_terminal  # asked once: it looks into the environment
    started = told = time.monotonic()
    task = None
    try:
        for number, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if task is None and terminal and now - started > SECONDS:
                bar.start()
                task = bar.add_task(what, total=None)
            if task is not None and now - told > 0.1:
                bar.update(task, completed=number)
                told = now
            elif not terminal and now - told > EVERY_SECONDS:
                console.print(f"{what} {number:,}, {now - started:.0f} s", highlight=False)
                told = now
    finally:
        if task is not None:
            bar.stop()
