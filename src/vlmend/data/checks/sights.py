"""One look at each picture of a data set, one picture in memory at a time: is it one, and what does it look like?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vlmend.data.checks.finding import Item
from vlmend.data.perceptual import Looks, looks
from vlmend.errors import DataError
from vlmend.rgb import BadPicture, Change, Fault, decode
from vlmend.types import Image

BLANK = 8  # levels of 255 within which all of a blank picture lies
FAULTS: Mapping[Fault, str] = {
    "unreadable": "unreadable_picture",
    "damaged": "truncated_picture",
    "huge": "huge_picture",
}

Tell = Callable[[int, int], None]  # how many of how many pictures were looked at


@dataclass(frozen=True)
class Sight:
    """What a look at a picture tells: the kind of defect and why, or else what there is to see.

    `changes`: what had to be done to show it (`vlmend.rgb.CHANGES`), each with a detail.
    """

    fault: str = ""
    why: str = ""
    sha256: str = ""
    suffix: str = ""
    changes: Mapping[Change, str] = field(default_factory=dict[Change, str])
    blank: bool = False
    looks: Looks | None = None
    size: tuple[int, int] = (0, 0)


Sights = Mapping[Image, Sight]


def silent(done: int, total: int) -> None:
    """Tell nobody."""
    del done, total


def look(items: Iterable[Item], tell: Tell = silent) -> Sights:
    """Look at every picture once."""
    pictures = list(dict.fromkeys(image for item in items for image in item.images))
    seen: dict[Image, Sight] = {}
    for image in pictures:
        seen[image] = see(image)
        tell(len(seen), len(pictures))
    return seen


def see(image: Image) -> Sight:
    """Look at a picture. What is wrong with it is part of what is returned; nothing is raised."""
    if image.path is not None and not image.path.is_file():
        return Sight("missing_picture", "is not there")
    try:
        data = image.path.read_bytes() if image.path is not None else image.read()
    except DataError as error:
        return Sight("unreadable_picture", str(error))
    except OSError as error:
        return Sight("unreadable_picture", f"cannot be read: {error.strerror or error}")
    if not data:
        return Sight("unreadable_picture", "is empty (0 bytes)")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        seen = decode(data, image.max_pixels)
    except BadPicture as error:
        return Sight(FAULTS[error.fault], error.why, sha256)
    suffix = f".{seen.format.lower()}" if seen.format else ""
    blank = int(np.ptp(np.asarray(seen.picture), axis=(0, 1)).max()) <= BLANK
    return Sight("", "", sha256, suffix, seen.changes, blank, looks(seen.picture), seen.picture.size)
