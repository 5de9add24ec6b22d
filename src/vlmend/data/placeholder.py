"""Stand-ins for pictures that are not there: one fixed mosaic of colors per picture id, which shows nothing.

They let a pipeline run on metadata alone. A model cannot learn from them what is in a picture, only which words come
with which answer, so whatever is measured with them says nothing about real pictures; manifests and reports say so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from vlmend.data.pictures import folder
from vlmend.drawing import png
from vlmend.types import Example, Image, Pair, map_images

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


def names(files: Sequence[Path]) -> Mapping[Path, str]:
    """The id of each picture of a set: its path below the folder that all of them share."""
    root = folder(files)
    return {file: _below(root, file) for file in files}


def _below(root: Path, file: Path) -> str:
    if file.is_relative_to(root):
        return file.relative_to(root).as_posix()
    return os.path.relpath(file, root)


def fill(item: T, absent: Mapping[Path, str]) -> T:
    """The example or pair with each absent picture replaced by its stand-in; `absent` has their ids."""

    def stand_in(image: Image) -> Image:
        if image.path is None or image.path not in absent:
            return image
        return Image(make=partial(draw, absent[image.path]), drawn=True)

    return map_images(item, stand_in)


def warning(count: int) -> str:
    """What to say, loudly, when stand-ins were used; empty when none were."""
    if not count:
        return ""
    return (
        f"PLACEHOLDER PICTURES: {count:,} missing picture{'s were' if count != 1 else ' was'} replaced by meaningless "
        f"color pattern{'s' * (count != 1)}. "
        "Nothing measured here says anything about real pictures."
    )
