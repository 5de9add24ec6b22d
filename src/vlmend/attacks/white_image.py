"""Show a white surface of the same size instead of every picture."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.attacks import PICTURES, covered
from vlmend.types import Example


@dataclass(frozen=True)
class WhiteImage:
    """Words, and the number, places and sizes of the pictures stay."""

    changes = PICTURES

    def __call__(self, example: Example) -> Example:
        """The example about nothing to be seen."""
        return covered(example, "white")


plugin = WhiteImage
