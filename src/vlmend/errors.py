"""Every error a user can cause.

    VlmendError
    ├── UsageError          a command, option or spec that cannot be meant
    │   └── UnknownName     a name that does not exist; says what does, and what is nearest
    ├── ConfigError         a recipe or plugin setting that does not validate
    ├── DataError           a data set, image or record that cannot be read as what it claims to be
    ├── ModelError          a model, adapter or processor that does not load or does not fit
    └── StoreError          a run folder that is damaged, locked, or holds another run

The command line prints the message as one line and exits with 2; a traceback is shown with `--debug`.
Anything else that escapes is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LINE = 100  # characters of a value that a message shows
_UNBROKEN = re.compile(r"\S{400,}")  # longer than any sensible path: what a picture in a text looks like


class VlmendError(Exception):
    """Base of all errors a user can cause; its message is one line.

    Whoever quotes a value cuts it with `brief`. What was overlooked is cut here, so that no picture that came as text
    ever fills a screen.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(_UNBROKEN.sub(_cut, part) if isinstance(part, str) else part for part in parts))


class UsageError(VlmendError, ValueError):
    """A command, option or spec that cannot be meant."""


class UnknownName(UsageError, KeyError):
    """A name that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        meant, known_names = hint or nearest(name, self.known), ", ".join(self.known) or "none"
        super().__init__(f"no {kind} named {brief(name)}.{meant} Known: {known_names}.")

    def __reduce__(self) -> tuple[object, ...]:  # by its message, as what goes from process to process is made again
        return UsageError, self.args

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class ConfigError(VlmendError, ValueError):
    """A recipe or plugin setting that does not validate."""


class DataError(VlmendError, ValueError):
    """A data set, image or record that cannot be read as what it claims to be."""


class ModelError(VlmendError, RuntimeError):
    """A model, adapter or processor that does not load or does not fit."""


class StoreError(VlmendError, RuntimeError):
    """A run folder that is damaged, locked, or holds another run."""


def brief(value: object) -> str:
    """A value as a message quotes it: at most about a line of it, and how long it is where that is more."""
    text = repr(value[: LINE + 1] if isinstance(value, str | bytes) else value)
    if isinstance(value, str | bytes) and len(value) > LINE:
        kind = "characters" if isinstance(value, str) else "bytes"
        return f"{text[:LINE]}…{text[0] if isinstance(value, str) else text[1]} ({len(value):,} {kind})"
    return text if len(text) <= 2 * LINE else f"{text[: 2 * LINE]}…"


def _cut(match: re.Match[str]) -> str:
    return f"{match[0][:LINE]}… ({len(match[0]):,} characters)"


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean 'x'?' for the closest known name, or the empty string."""
    close = difflib.get_close_matches(name[: 4 * LINE], list(known), n=1, cutoff=0.51)
    return f" Did you mean {close[0]!r}?" if close else ""
