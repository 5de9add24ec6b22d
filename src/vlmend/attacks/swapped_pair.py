"""Show several pictures in the opposite order: who reads them all should not mind."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.attacks import PICTURES, repictured
from vlmend.types import Example


@dataclass(frozen=True)
class SwappedPair:
    """Words and places stay, so words that speak of the first and the second picture may become wrong.

    An example with one picture, or with none, stays as it is.
    """

    changes = PICTURES

    def __call__(self, example: Example) -> Example:
        """The example with its pictures from last to first."""
        backward = example.images[::-1]
        return repictured(example, lambda number, _: backward[number])


plugin = SwappedPair
