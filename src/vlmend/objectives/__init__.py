"""Training objectives, one per file: frozen settings whose call turns scored tokens into a loss."""

from __future__ import annotations

from typing import Protocol

from vlmend.ops.scored import Loss, Scored


class Objective(Protocol):
    """What the loop asks of an objective. `needs_reference` makes the loop score with the untuned model too."""

    @property
    def needs_reference(self) -> bool: ...

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss: ...
