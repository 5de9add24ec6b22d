"""What a reader says of a file beside what it reads: one line on stderr, once in a process however often it is read."""

from __future__ import annotations

import os

_said: set[str] = set()


def notice(about: object, text: str) -> None:
    """Say `about: text`, unless just this was said before, or another process of the run is the one that speaks."""
    line = f"{about}: {text}"
    if line in _said or os.environ.get("RANK", "0") != "0":
        return
    _said.add(line)
    from rich.console import Console

    from vlmend.terminal import say

    say(Console(stderr=True), line)
