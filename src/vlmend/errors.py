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
from collections.abc import Iterable


class VlmendError(Exception):
    """Base of all errors a user can cause; its message is one line."""


class UsageError(VlmendError, ValueError):
    """A command, option or spec that cannot be meant."""


class UnknownName(UsageError, KeyError):
    """A name that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(
            f"no {kind} named {name!r}.{hint or nearest(name, self.known)} Known: {', '.join(self.known) or 'none'}."
        )

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


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean 'x'?' for the closest known name, or the empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
