"""From the bytes of a picture file to the pixels that everyone sees, in one place.

A model, a server, a judge, an attack, a check and a report get the same picture: RGB of 8 bits, upright.

- What is transparent lies on white, as viewers show it; colors hidden under it are nobody's.
- Gray of more than 8 bits is scaled to 8 by the range that the picture uses: of 16 bits by the fewest of 8, 10, 12, 14
  and 16 bits that hold its values, of other numbers from the least to the greatest, and as it is between 0 and 1.
- Of several frames or pages, the first.
- A turn that EXIF asks for is made; CMYK and the like are converted.

How large a picture is stands in its header: what has too many pixels is refused before any is decoded.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlmend.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

MAX_PIXELS = 1 << 26  # 67 million: 8192 x 8192, 200 MB when decoded
MOST_PIXELS = 178_956_970  # what Pillow itself refuses, unless it is told otherwise
ORIENTATION = 0x0112  # the EXIF tag that says how to turn a picture; 1 is upright
# What Pillow's decoders raise on bytes that are no picture, or only half of one.
BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, struct.error, zlib.error),
    *(NotImplementedError, MemoryError, AttributeError, RecursionError),
)
ORDINARY = ("1", "L", "P", "RGB", "LA", "PA", "La", "RGBA", "RGBa", "RGBX")
BITS = (8, 10, 12, 14, 16)
TIFF_KIND, TIFF_WHITE_IS_ZERO, TIFF_UNSIGNED = (339, 262, 1)  # SampleFormat, PhotometricInterpretation; SampleFormat 1
RULES = 1  # to be raised when other pixels come out of the same bytes
_DEEP = re.compile(r"\W*(RGB|LA|CMYK)[AXa]*;16")  # how Pillow names what it halves; BGR;16 has 16 bits in all
_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

Fault = Literal["unreadable", "huge", "damaged"]
# What has to be done to a file's pixels before they are what everyone sees.
Change = Literal["rotated", "transparent", "deep", "frames", "colors"]
CHANGES: Mapping[Change, str] = {
    "transparent": "have transparency, which is laid on white",
    "deep": "have more than 8 bits per value, which are scaled to 8",
    "frames": "have several frames or pages, of which the first is shown",
    "colors": "are stored in CMYK or another color space than RGB, which programs convert in ways of their own",
    "rotated": "are stored turned or mirrored (EXIF), which is undone",
}


class BadPicture(DataError):
    """Bytes that cannot be shown: `fault` in a word, and `why` in words that follow the picture's name."""

    def __init__(self, fault: Fault, why: str, name: str = "") -> None:
        self.fault: Fault = fault
        self.why = why
        told = "" if fault == "unreadable" else f": it {why}"
        super().__init__(f"image {name} is not a readable picture{told}" if name else why)

    def of(self, name: str) -> BadPicture:
        """The same of a picture with a name."""
        return BadPicture(self.fault, self.why, name)


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded: (width, height), format, Pillow's mode, what must be done to it.

    That it is `transparent` means here that it may be.
    """

    size: tuple[int, int]
    format: str
    mode: str
    changes: frozenset[Change] = frozenset()


@dataclass(frozen=True)
class Seen:
    """A picture as everyone sees it, the format of its file, and what was done to its pixels, each with a detail."""

    picture: Picture
    format: str
    changes: Mapping[Change, str] = field(default_factory=dict[Change, str])


def header(source: bytes | Path, max_pixels: int = MAX_PIXELS) -> Header:
    """What the header of a file says. Raises BadPicture when there is none, or it promises more than `max_pixels`."""
    with _opened(source, max_pixels) as picture:
        found: Mapping[Change, bool] = {
            "transparent": picture.has_transparency_data,
            "deep": bool(_depth(picture)),
            "frames": _several(picture),
            "colors": picture.mode not in ORDINARY and not _is_deep_gray(picture),
            "rotated": _turn(picture) is not None,
        }
        changes: frozenset[Change] = frozenset(change for change, there in found.items() if there)
        return Header(picture.size, picture.format or "", picture.mode, changes)


def decode(data: bytes, max_pixels: int = MAX_PIXELS, *, small: int = 0) -> Seen:
    """The picture. Raises BadPicture when the bytes are none, are damaged, or have more than `max_pixels`.

    With `small`, a JPEG may come with fewer pixels than it has, but no side below so many where it had them.
    """
    from PIL import Image as Pillow

    picture = _opened(data, max_pixels)
    changes: dict[Change, str] = {}
    try:
        if _several(picture):
            changes["frames"] = "the first frame is shown"
        if depth := _depth(picture):
            changes["deep"] = depth
        if small:
            picture.draft("RGB", (small, small))
        picture.load()
        turn = _turn(picture)
        flat = _flat(picture, changes)
        if turn is not None:
            changes["rotated"] = "turned as EXIF says"
            flat = flat.transpose(turn)
        return Seen(flat, picture.format or "", changes)
    except BadPicture:
        raise
    except (Pillow.DecompressionBombError, *BROKEN) as error:
        raise BadPicture("damaged", f"ends early or is damaged ({_line(error)})") from error


def _opened(source: bytes | Path, max_pixels: int) -> Picture:
    """The picture, nothing of it decoded yet."""
    from PIL import Image as Pillow

    _hush()
    try:
        picture = Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except Pillow.DecompressionBombError as error:
        raise BadPicture("huge", f"has more than {max_pixels:,} pixels (max_pixels)") from error
    except BROKEN as error:
        raise BadPicture("unreadable", "is not a readable picture") from error
    width, height = picture.size
    if width * height > max_pixels:
        raise BadPicture(
            "huge", f"is {width:,} x {height:,} pixels, {width * height:,} in all, more than max_pixels {max_pixels:,}"
        )
    return picture


def _hush() -> None:
    """Pillow warns of damaged EXIF and many pixels; what matters of that is found here.

    Not by `catch_warnings`, which threads that decode at the same time would undo for one another.
    """
    if _PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _several(picture: Picture) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except BROKEN:  # later frames are damaged; the first need not be
        picture.seek(0)
        return True


def _turn(picture: Picture) -> Any:
    """What makes the picture upright, or None; damaged EXIF says nothing."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    try:
        return turns.get(picture.getexif().get(ORIENTATION, 1))
    except BROKEN:
        return None


def _is_deep_gray(picture: Picture) -> bool:
    """Whether values are whole numbers of more than 8 bits, or floats."""
    return picture.mode.startswith("I") or picture.mode == "F"


def _depth(picture: Picture) -> str:
    """How many bits a value has, when it is more than 8. To be asked before the picture is decoded."""
    if picture.mode == "F":
        return "floating-point numbers"
    if picture.mode == "I":
        return "32-bit numbers"
    if picture.mode.startswith("I"):
        return "16 bits per value"
    tiles: list[Any] = getattr(picture, "tile", [])
    return "16 bits per color" if any(_DEEP.match(str(tile[3])) for tile in tiles) else ""


def _flat(picture: Picture, changes: dict[Change, str]) -> Picture:
    """Any mode as RGB, nothing transparent. Adds what had to be done to `changes`."""
    if _is_deep_gray(picture):
        return _scaled(picture, changes)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        alpha = rgba.getchannel("A")
        least, _ = alpha.getextrema()
        if least == 255:
            return rgba.convert("RGB")
        changes["transparent"] = "laid on white"
        return _on_white(rgba, alpha)
    if picture.mode not in ORDINARY:
        changes["colors"] = f"converted from {picture.mode}"
    if picture.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        return ImageCms.applyTransform(picture, transform) or picture
    return picture.convert("RGB")


def _on_white(picture: Picture, alpha: Picture) -> Picture:
    from PIL import Image as Pillow

    canvas = Pillow.new("RGB", picture.size, "white")
    canvas.paste(picture.convert("RGB"), mask=alpha)
    return canvas


def _scaled(picture: Picture, changes: dict[Change, str]) -> Picture:
    """Gray of many bits as RGB of 8."""
    import numpy as np
    from PIL import Image as Pillow

    values = _values(picture)
    low, high, detail = _range(values)
    changes["deep"] = f"{changes['deep']}, {detail}"
    gray = np.empty(values.shape, dtype=np.uint8)
    for shown, part in zip(gray, values, strict=True):  # row by row, so that little is held as floats
        row = np.nan_to_num(part.astype(np.float64), nan=low, posinf=high, neginf=low)
        shown[:] = np.rint((row - low) * (255 / max(high - low, 1e-300))).clip(0, 255)
    if _tag(picture, TIFF_WHITE_IS_ZERO) == 0:
        gray = 255 - gray
    hidden = picture.info.get("transparency")
    if isinstance(hidden, int) and (values == hidden).any():
        changes["transparent"] = "laid on white"
        gray = np.where(values == hidden, np.uint8(255), gray)
    return Pillow.fromarray(gray).convert("RGB")


def _values(picture: Picture) -> NDArray[Any]:
    import numpy as np

    values = np.asarray(picture)
    if picture.mode == "I" and _tag(picture, TIFF_KIND) == TIFF_UNSIGNED and _tag(picture, 258) == 32:
        return values.view(np.uint32)  # Pillow reads them as if they had a sign
    return values


def _tag(picture: Picture, number: int) -> Any:
    """The first value of a tag of a TIFF file; None where there is none."""
    found = getattr(picture, "tag_v2", {}).get(number)
    return found[0] if isinstance(found, tuple) and found else found


def _range(values: NDArray[Any]) -> tuple[float, float, str]:
    """Which values are black and white, and how to say it."""
    import numpy as np

    if values.dtype.kind == "f":
        return _range_of_floats(values)
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < 1 << BITS[-1]:
        bits = next(n for n in BITS if high < 1 << n)
        used = "" if bits == BITS[-1] else f", of which {bits} are used"
        return 0.0, float(np.left_shift(1, bits) - 1), f"from {low:,} to {high:,}{used}"
    return float(low), float(high), f"from {low:,} to {high:,}"


def _range_of_floats(values: NDArray[Any]) -> tuple[float, float, str]:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.any():
        raise BadPicture("damaged", "has no value that is a number")
    low, high = float(values.min(where=finite, initial=np.inf)), float(values.max(where=finite, initial=-np.inf))
    lost = int(finite.size - np.count_nonzero(finite))
    detail = f"from {low:g} to {high:g}" + (f"; {lost:,} that are not finite" if lost else "")
    return (0.0, 1.0, detail) if low >= 0 and high <= 1 else (low, high, detail)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
