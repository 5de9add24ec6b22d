"""Gemma 3: the pieces of one picture see each other; text is causal."""

from dataclasses import dataclass
from typing import ClassVar

from vlmend.models.family import Family, Lookahead


@dataclass(frozen=True)
class Gemma3(Family):
    """No settings."""

    lookahead: ClassVar[Lookahead] = "picture"


plugin = Gemma3
