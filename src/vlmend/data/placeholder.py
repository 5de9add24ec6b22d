"""Stand-ins for pictures that are not there: one fixed mosaic of colors per picture id, which shows nothing.

They let a pipeline run on metadata alone. A model cannot learn from them what is in a picture, only which words come
with which answer, so whatever is measured with them says nothing about real pictures; manifests and reports say so.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from vlmend.drawing import png
from vlmend.types import Example, Image, Pair

T = TypeVar("T", bound=Example | Pair)
SIDE = 96
CELLS = 6


def draw(key: str) -> bytes:
    """A PNG of CELLS x CELLS colored squares, different for every key and always the same for one."""
    import numpy as np
    from PIL import Image as Pillow

    stream = hashlib.shake_256(key.encode()).digest(CELLS * CELLS * 3)
    grid = np.frombuffer(stream, dtype=np.uint8).reshape(CELLS, CELLS, 3)
    picture = grid.repeat(SIDE // CELLS, axis=0).repeat(SIDE // CELLS, axis=1)
    return png(Pillow.fromarray(picture))


def root_of(files: list[Path]) -> Path:
    """The folder below which a picture's path is its id: what all files of the set share."""
    return Path(os.path.commonpath([file.parent for file in files])) if files else Path()


def fill(item: T, absent: set[Path], root: Path) -> T:
    """The example or pair with each absent picture replaced by its stand-in."""

    def stand_in(image: Image) -> Image:
        if image.path is None or image.path not in absent:
            return image
        return Image(make=partial(draw, image.path.relative_to(root).as_posix()))

    messages = tuple(
        replace(m, parts=tuple(stand_in(p) if isinstance(p, Image) else p for p in m.parts)) for m in item.prompt
    )
    if isinstance(item, Pair) and item.rejected_images is not None:
        return replace(item, prompt=messages, rejected_images=tuple(stand_in(i) for i in item.rejected_images))
    return replace(item, prompt=messages)


def warning(count: int) -> str:
    """What to say, loudly, when stand-ins were used; empty when none were."""
    if not count:
        return ""
    return (
        f"PLACEHOLDER PICTURES: {count:,} missing pictures were replaced by meaningless color patterns. "
        "Nothing measured here says anything about real pictures."
    )
