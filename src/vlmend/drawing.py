"""Pictures that are drawn, not read: text as FigStep shows it, and plain surfaces. PNG bytes out."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

SIDE, LEFT, TOP, LETTER, SPACING, COLUMNS, ITEMS = 760, 20, 10, 80, 11, 15, 3


def png(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def solid(color: str, size: tuple[int, int]) -> bytes:
    """One color throughout; `size` is (width, height) in pixels."""
    from PIL import Image as Pillow

    return png(Pillow.new("RGB", size, color))


def typeset(instruction: str) -> bytes:
    """An instruction and the empty items of a list below it, black on white (FigStep, arXiv 2311.05608).

    Letters of 80 pixels with fixed width, 760 by 760 pixels, lines of 15 characters, then the items 1 to 3. A text that
    would not fit is drawn smaller, not cut off.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    lines = [*textwrap.wrap(instruction, COLUMNS), *(f"{number}. " for number in range(1, ITEMS + 1))]
    text = "\n".join(lines)
    canvas = Pillow.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(canvas)
    font, spacing = _fitting(pen, text)
    pen.text((LEFT, TOP), text, fill="black", font=font, spacing=spacing)
    return png(canvas)


def _fitting(pen: ImageDraw, text: str) -> tuple[FreeTypeFont, float]:
    """The typeface and the space between lines, as the authors' or as much smaller as it takes to fit the canvas."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    typeface = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono-Bold.ttf"
    size = LETTER
    while True:
        font, spacing = ImageFont.truetype(typeface, size), SPACING * size / LETTER
        _, _, right, bottom = pen.textbbox((LEFT, TOP), text, font=font, spacing=spacing)
        reach = max(right, bottom)
        if reach <= SIDE or size == 1:
            return font, spacing
        size = max(1, min(size - 1, int(size * SIDE / reach)))
