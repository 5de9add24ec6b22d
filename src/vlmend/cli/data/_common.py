"""What the data commands share: keys of rows mapped on the command line, and progress on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, TypeVar

import typer

T = TypeVar("T")
SECONDS = 2.0  # nothing is said about what takes less
EVERY_SECONDS = 15.0

Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="Read the rows' key KEY as FIELD: --map question=prompt; repeat.", show_default=False),
]


def mapped(spec: str, keys: list[str] | None) -> str:
    """The spec with `KEY=FIELD` items as its option `map`. Raises UsageError."""
    from vlmend.errors import UsageError
    from vlmend.registry import Spec

    if not keys:
        return spec
    pairs = [item.partition("=") for item in keys]
    for item, (key, equals, _) in zip(keys, pairs, strict=True):
        if not key or not equals:
            raise UsageError(f"--map {item!r} should be KEY=FIELD, as in --map question=prompt")
    asked = Spec.parse(spec)
    given = [f"{key}:{name}" for key, _, name in pairs]
    before = [value for key, value in asked.options if key == "map"]
    options = [f"{key}={value}" for key, value in asked.options if key != "map"] + [f"map={','.join(before + given)}"]
    colon, mark = (":" if asked.argument else ""), ("#" if asked.split else "")
    return f"{asked.name}{colon}{asked.argument}{mark}{asked.split}?{'&'.join(options)}"


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
