"""What options of the papers' scripts are called in a recipe, for "did you mean" and for the page about recipes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vlmend import plain_yaml

FILE = Path(__file__).with_suffix(".yaml")


class Option(NamedTuple):
    """An option of others: whose it is, the dotted key of ours, and what else there is to say; one of both may lack."""

    theirs: str
    of: str
    ours: str = ""
    note: str = ""

    @property
    def told(self) -> str:
        """`train.projector_learning_rate`, or why there is none."""
        note = f" ({self.note})" if self.ours and self.note else self.note
        return f"{self.ours}{note}" if self.ours else f"nothing here: {note}"


@cache
def options() -> tuple[Option, ...]:
    """All that are known, in the order of the file."""
    return tuple(Option(**row) for row in plain_yaml.parse(FILE.read_text(encoding="utf-8"), "the names of options"))


def meant(path: Sequence[object]) -> str:
    """' In scripts of LLaVA that is …' for a key of a recipe that others have, or the empty string."""
    given = [_plain(str(part)) for part in path]
    for option in options():
        theirs = [_plain(part) for part in option.theirs.split(".")]
        if given[-len(theirs) :] == theirs:
            return f" What scripts of {option.of} call {option.theirs} is {option.told}."
    return ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def table() -> str:
    """All of them in Markdown."""
    lines = ["| theirs | whose | here |", "|---|---|---|"]
    for option in options():
        here = f"`{option.ours}`{f': {option.note}' if option.note else ''}" if option.ours else option.note
        lines.append(f"| `{option.theirs}` | {option.of} | {here} |")
    return "\n".join(lines) + "\n"
