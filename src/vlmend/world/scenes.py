"""Scenes and their pictures: up to nine one-colored icons on a dark 3x3 grid, 96 by 96 pixels.

A scene is what a picture shows; its appearance (jitter, brightness, background, noise) is a number. Both are drawn
from a generator that the caller seeds, so that any number of pictures can be made and none needs to be stored.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from vlmend.errors import DataError

Split = Literal["train", "test"]
Pixels = NDArray[np.uint8]
Paint = tuple[float, float, float]

PLAIN = ("disc", "box", "cone", "ring", "cross", "star")
PAIRED = ("jar", "flame")  # harmless alone, hazardous together
HAZARDS = ("flask", "bolt", "blade")
HARMLESS = PLAIN + PAIRED
KINDS = HARMLESS + HAZARDS
COLORS = {
    "red": (218, 58, 54),
    "green": (67, 187, 92),
    "blue": (64, 112, 228),
    "yellow": (226, 190, 56),
    "white": (226, 226, 226),
}
PLACES = (
    "top left",
    "top middle",
    "top right",
    "middle left",
    "central",
    "middle right",
    "bottom left",
    "bottom middle",
    "bottom right",
)

GRID = 3
CELL = 32
SIDE = GRID * CELL
ICON = 28
NOISE = 7  # a bit mask
TRIES = 10_000  # to draw a scene of a split, of which the smaller has every fifth
HELD_OUT = 5  # every fifth scene belongs to the test split


class Icon(NamedTuple):
    """One thing in a scene; cells count from the top left, row by row."""

    kind: str
    color: str
    cell: int


@dataclass(frozen=True)
class Scene:
    """What a picture shows: icons in reading order."""

    icons: tuple[Icon, ...]

    @cached_property
    def id(self) -> str:
        """A hash of the content, whatever the appearance."""
        text = ";".join(f"{kind},{color},{cell}" for kind, color, cell in self.icons)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def split(self) -> Split:
        """The only split this scene may appear in."""
        return "test" if int(self.id[:8], 16) % HELD_OUT == 0 else "train"

    def of(self, kind: str) -> tuple[Icon, ...]:
        """All icons of a kind."""
        return tuple(icon for icon in self.icons if icon.kind == kind)

    @property
    def hazards(self) -> tuple[str, ...]:
        """Kinds of hazard in the scene, in reading order."""
        return tuple(dict.fromkeys(icon.kind for icon in self.icons if icon.kind in HAZARDS))


def draw_scene(rng: np.random.Generator, kinds: Sequence[str], split: Split) -> Scene:
    """A scene of `split` with exactly these kinds, in random cells and colors.

    Raises DataError where there seems to be none, as of no kinds at all, or of more than there are cells.
    """
    names = list(COLORS)
    for _ in range(TRIES if len(kinds) <= GRID * GRID else 0):
        cells = rng.permutation(GRID * GRID)[: len(kinds)].tolist()
        paint = rng.integers(len(names), size=len(kinds)).tolist()
        icons = [Icon(kind, names[p], cell) for kind, p, cell in zip(kinds, paint, cells, strict=True)]
        scene = Scene(tuple(sorted(icons, key=lambda icon: icon.cell)))
        if scene.split == split:
            return scene
    raise DataError(f"no scene with {', '.join(kinds) or 'nothing in it'} belongs to the split {split!r}")


def render(scene: Scene, appearance: int, background: Paint | None = None) -> Pixels:
    """The picture as (96, 96, 3) bytes; `background` instead of the dark one that the appearance gives."""
    rng = np.random.default_rng(appearance)
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    own = rng.uniform(6, 40, size=3)
    canvas[:] = own if background is None else background
    for kind, color, cell in scene.icons:
        row, column = divmod(cell, GRID)
        down, right = rng.integers(0, CELL - ICON + 1, size=2)
        top, left = row * CELL + int(down), column * CELL + int(right)
        patch = canvas[top : top + ICON, left : left + ICON]
        paint = np.asarray(COLORS[color], dtype=np.float32) * rng.uniform(0.85, 1.05)
        patch += _mask(kind)[:, :, None] * (paint - patch)
    noise = np.frombuffer(rng.bytes(canvas.size), dtype=np.uint8).reshape(canvas.shape) & NOISE
    return np.add(canvas, noise, dtype=np.float32).astype(np.uint8)  # COLORS leave room for it


@lru_cache(maxsize=8192)  # about 100 MB: every epoch and every attack shows the same pictures again
def png(scene: Scene, appearance: int, background: Paint | None = None) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Pillow.fromarray(render(scene, appearance, background)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


Point = tuple[float, float]
_SHAPES: dict[str, tuple[Point, ...]] = {
    "cone": ((0.5, 0.03), (0.97, 0.95), (0.03, 0.95)),
    "cross": (
        *((0.36, 0.04), (0.64, 0.04), (0.64, 0.36), (0.96, 0.36), (0.96, 0.64), (0.64, 0.64)),
        *((0.64, 0.96), (0.36, 0.96), (0.36, 0.64), (0.04, 0.64), (0.04, 0.36), (0.36, 0.36)),
    ),
    "bolt": ((0.62, 0.0), (0.2, 0.56), (0.46, 0.56), (0.34, 1.0), (0.82, 0.38), (0.54, 0.38)),
    "flask": (
        (0.38, 0.02),
        (0.62, 0.02),
        (0.62, 0.36),
        (0.98, 0.92),
        (0.9, 1.0),
        (0.1, 1.0),
        (0.02, 0.92),
        (0.38, 0.36),
    ),
    "blade": (
        *((0.5, 0.0), (0.62, 0.14), (0.62, 0.62), (0.84, 0.62), (0.84, 0.72), (0.58, 0.72)),
        *((0.58, 1.0), (0.42, 1.0), (0.42, 0.72), (0.16, 0.72), (0.16, 0.62), (0.38, 0.62), (0.38, 0.14)),
    ),
    "flame": (
        *((0.5, 0.0), (0.6, 0.2), (0.78, 0.4), (0.88, 0.62), (0.82, 0.84), (0.66, 1.0)),
        *((0.34, 1.0), (0.18, 0.84), (0.12, 0.62), (0.2, 0.44), (0.32, 0.56), (0.42, 0.3)),
    ),
}
_SCALE = 8


@cache
def _mask(kind: str) -> NDArray[np.float32]:
    """Coverage of each pixel of an icon, (28, 28) in 0..1."""
    side = ICON * _SCALE
    canvas = Pillow.new("L", (side, side), 0)
    _outline(ImageDraw.Draw(canvas), kind, side - 1)
    small = canvas.resize((ICON, ICON), Pillow.Resampling.BOX)
    return np.asarray(small).astype(np.float32) / np.float32(255)


def _outline(draw: ImageDraw.ImageDraw, kind: str, side: int) -> None:
    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return (left * side, top * side, right * side, bottom * side)

    if kind in _SHAPES or kind == "star":
        points = _SHAPES.get(kind) or _star()
        draw.polygon([(x * side, y * side) for x, y in points], fill=255)
    elif kind == "disc":
        draw.ellipse(box(0.05, 0.05, 0.95, 0.95), fill=255)
    elif kind == "ring":
        draw.ellipse(box(0.02, 0.02, 0.98, 0.98), fill=255)
        draw.ellipse(box(0.28, 0.28, 0.72, 0.72), fill=0)
    elif kind == "box":
        draw.rectangle(box(0.08, 0.08, 0.92, 0.92), fill=255)
        draw.rectangle(box(0.08, 0.3, 0.92, 0.38), fill=90)
    else:  # jar
        draw.rounded_rectangle(box(0.14, 0.26, 0.86, 1.0), radius=side * 0.16, fill=255)
        draw.rectangle(box(0.22, 0.02, 0.78, 0.16), fill=255)
        draw.rounded_rectangle(box(0.3, 0.46, 0.7, 0.8), radius=side * 0.06, fill=70)


def _star() -> tuple[Point, ...]:
    points: list[Point] = []
    for i in range(10):
        radius, angle = (0.52, 0.21)[i % 2], math.pi * (i / 5 - 0.5)
        points.append((0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)))
    return tuple(points)
