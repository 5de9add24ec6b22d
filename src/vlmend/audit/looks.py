"""What a picture looks like in fifteen numbers, none of which knows what it shows; a header's size and format, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vlmend import rgb
from vlmend.audit.measures import Bools, Floats
from vlmend.errors import DataError
from vlmend.types import Example, Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDE = 32  # pixels to which a picture is shrunk
NUMBERS = (
    *(f"{what} {color}" for what in ("mean", "spread of", "border") for color in ("red", "green", "blue")),
    *("saturation", "spread of saturation", "horizontal edges", "vertical edges", "dark share", "bright share"),
)
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """Size, format and numbers of one picture."""

    width: int
    height: int
    format: str
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Looks:
    """The first picture of each example: what was seen of it, and for how many there was nothing to see."""

    found: tuple[Look | None, ...]
    missing: int
    broken: int
    none: int

    @property
    def seen(self) -> Bools:
        """Which examples have a first picture that could be read."""
        return np.array([look is not None for look in self.found], dtype=bool)

    def take(self, chosen: Bools) -> Looks:
        """Those of some of the examples; the counts stay those of all."""
        return replace(self, found=tuple(look for look, wanted in zip(self.found, chosen, strict=True) if wanted))

    @property
    def numbers(self) -> Floats:
        """The numbers of the pictures that were seen: (seen, 15)."""
        return np.array([look.numbers for look in self.found if look is not None]).reshape(-1, len(NUMBERS))

    @property
    def note(self) -> str:
        """What could not be looked at, in words; empty when everything could."""
        parts = [(self.missing, "missing"), (self.broken, "not readable"), (self.none, "not there to begin with")]
        told = ", ".join(f"{count:,} {what}" for count, what in parts if count)
        unknown = "sizes, formats and colors are unknown there"
        return f"first pictures of {len(self.found):,} examples: {told}; {unknown}" if told else ""


def look(examples: Sequence[Example], tell: Tell) -> Looks:
    """Look at the first picture of each example, each file once."""
    seen: dict[Image, Look | str] = {}
    first = [example.images[0] if example.images else None for example in examples]
    wanted = list(dict.fromkeys(image for image in first if image is not None))
    for number, image in enumerate(wanted, start=1):
        seen[image] = see(image)
        tell(number, len(wanted))
    found = ["none" if image is None else seen[image] for image in first]
    counts = {why: sum(item == why for item in found) for why in ("missing", "broken", "none")}
    return Looks(tuple(item if isinstance(item, Look) else None for item in found), **counts)


def see(image: Image) -> Look | str:
    """What one picture looks like, or why that cannot be said: `missing` or `broken`."""
    if image.path is not None and not image.path.is_file():
        return "missing"
    try:
        data = image.read()
        width, height = rgb.header(data, image.max_pixels).size
        seen = rgb.decode(data, image.max_pixels, small=4 * SIDE)  # a JPEG is decoded small
    except DataError:
        return "broken"
    return Look(width, height, seen.format, numbers(seen.picture))


def numbers(picture: Picture) -> tuple[float, ...]:
    """Of an RGB picture: color, saturation, edges and brightness, each 0 to 255 (shares: 0 to 1)."""
    from PIL import Image as Pillow

    small = picture.resize((SIDE, SIDE), Pillow.Resampling.BOX)
    pixels = np.asarray(small).astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    gray = pixels.mean(axis=2)
    saturation = pixels.max(axis=2) - pixels.min(axis=2)
    flat = pixels.reshape(-1, 3)
    return (
        *flat.mean(axis=0).tolist(), *flat.std(axis=0).tolist(), *np.median(border, axis=0).tolist(),
        float(saturation.mean()), float(saturation.std()),
        float(np.abs(np.diff(gray, axis=1)).mean()), float(np.abs(np.diff(gray, axis=0)).mean()),
        float((gray < 64).mean()), float((gray > 192).mean()),
    )  # fmt: skip
