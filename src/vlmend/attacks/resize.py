"""Show every picture smaller, or larger, than it is: safety was seen to hang on the number of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from vlmend.attacks import PICTURES, repictured, variants
from vlmend.drawing import png
from vlmend.errors import ConfigError
from vlmend.types import Example, Image


@dataclass(frozen=True)
class Resize:
    """`resize:0.5` halves both sides (Lanczos); several factors, with commas, make as many variants.

    Words, and the number and places of the pictures stay.
    """

    factor: str = "0.5"

    changes = PICTURES

    def __post_init__(self) -> None:
        try:
            sound = all(math.isfinite(f) and 0 < f <= 16 for f in map(float, self.factor.split(",")))
        except ValueError:
            sound = False
        if not sound:
            raise ConfigError(f"attack resize: factor lies above 0 and up to 16, or is several, not {self.factor!r}")

    def __call__(self, example: Example) -> Example | Sequence[Example]:
        """The example with pictures of another size, once for each factor."""
        factors = [text.strip() for text in self.factor.split(",")]
        return variants({text: repictured(example, partial(_resized, float(text))) for text in factors})


def _resized(factor: float, number: int, picture: Image) -> Image:
    del number
    return Image(make=partial(_scaled, picture, factor))


def _scaled(picture: Image, factor: float) -> bytes:
    from PIL import Image as Pillow

    shown = picture.open()
    size = (max(1, round(shown.width * factor)), max(1, round(shown.height * factor)))
    return png(shown.resize(size, Pillow.Resampling.LANCZOS))


plugin = Resize
