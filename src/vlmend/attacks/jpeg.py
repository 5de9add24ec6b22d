"""Show every picture as a JPEG file of a given quality would keep it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from vlmend.attacks import PICTURES, repictured, variants
from vlmend.errors import ConfigError
from vlmend.types import Example, Image


@dataclass(frozen=True)
class Jpeg:
    """`jpeg:30`; several qualities from 1 to 95, with commas, make as many variants.

    Words, and the number, places and sizes of the pictures stay.
    """

    quality: str = "30"

    changes = PICTURES

    def __post_init__(self) -> None:
        if not all(text.strip().isdecimal() and 1 <= int(text) <= 95 for text in self.quality.split(",")):
            raise ConfigError(f"attack jpeg: quality is a whole number from 1 to 95, or several, not {self.quality!r}")

    def __call__(self, example: Example) -> Example | Sequence[Example]:
        """The example with pictures of lower quality, once for each."""
        qualities = [text.strip() for text in self.quality.split(",")]
        return variants({text: repictured(example, partial(_lowered, int(text))) for text in qualities})


def _lowered(quality: int, number: int, picture: Image) -> Image:
    del number
    return Image(make=partial(_squeezed, picture, quality))


def _squeezed(picture: Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.open().save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


plugin = Jpeg
