"""Pictures as data URLs: a file is sent as it is where every server must decode it to the pixels we see ourselves.

A file whose pixels depend on who reads it (rotation in EXIF, transparency, more than 8 bits, several frames, odd
formats and color spaces) is sent as PNG of what we see. Only what is above the caps loses anything, and that is said.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image as Pillow

from vlmend.types import Image

PLAIN = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
QUALITY = 92


@dataclass(frozen=True)
class Caps:
    """`max_side` in pixels (0: any) and `max_bytes` of the file, before it becomes base64."""

    max_side: int = 0
    max_bytes: int = 15_000_000


def data_url(image: Image, caps: Caps) -> tuple[str, str]:
    """The picture inline, and what it lost on the way: empty when nothing. Raises DataError when it is unreadable."""
    picture, data = image.open(), image.read()
    kind = _plain_kind(image)
    if not kind:
        data, kind = _encoded(picture, "PNG"), "PNG"
    size = picture.size
    if caps.max_side and max(size) > caps.max_side:
        picture = _scaled(picture, caps.max_side / max(size))
        data = _encoded(picture, kind)
    while len(data) > caps.max_bytes:
        if kind == "JPEG" and max(picture.size) > 1:
            picture = _scaled(picture, 0.75)
        kind = "JPEG"
        data = _encoded(picture, kind)
        if max(picture.size) == 1:
            break
    lost = ""
    if picture.size != size:
        lost = f"scaled from {size[0]}x{size[1]} to {picture.size[0]}x{picture.size[1]}"
    elif data != image.read() and kind == "JPEG":
        lost = "sent as JPEG"
    return f"data:{PLAIN[kind]};base64,{base64.b64encode(data).decode()}", lost


def _plain_kind(image: Image) -> str:
    """The file's format when its pixels are the same to all readers, else empty."""
    header = image.header
    return header.format if header.format in PLAIN and header.mode in ("RGB", "L") and not header.changes else ""


def _scaled(picture: Pillow.Image, factor: float) -> Pillow.Image:
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Pillow.Resampling.LANCZOS)


def _encoded(picture: Pillow.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, quality=QUALITY)
    return file.getvalue()
