"""Whether the pictures a data set names are there and are pictures. Reads headers only, so thousands take a moment."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlmend import rgb
from vlmend.errors import DataError
from vlmend.types import Example, Pair


def paths(examples: Iterable[Example | Pair]) -> list[Path]:
    """Every picture file the examples or pairs name, once each, in order. Pictures made on demand have none."""
    return list(dict.fromkeys(i.path for e in examples for i in e.images if i.path is not None))


def told(items: Iterable[Example | Pair]) -> dict[str, int]:
    """How many different pictures the examples or pairs show, and how many of them are not shown as they are stored.

    Going by their headers: keys are those of `vlmend.rgb.CHANGES`, and `bad` for what cannot be shown at all.
    """
    images = list(dict.fromkeys(image for item in items for image in item.images))
    counts = Counter[str]()
    for image in images:
        if image.drawn:
            continue
        try:
            counts.update(image.header.changes)
        except DataError:
            counts["bad"] += 1
    return {"different": len(images), **dict(sorted(counts.items()))}


def missing(files: Iterable[Path]) -> list[Path]:
    """Those of the files that do not exist."""
    return [file for file in files if not file.is_file()]


def complain(examples: int, needed: int, absent: list[Path]) -> DataError:
    """One line that counts what is missing and says what can be done."""
    return DataError(
        f"{examples:,} examples need {needed:,} pictures; {len(absent):,} are missing, first {absent[0]}; "
        f"put them in {folder(absent)}, or have stand-ins drawn: missing_images=placeholder "
        "(tune: --set data.missing_images=placeholder; eval and data show: --missing-images placeholder)"
    )


def folder(files: Sequence[Path]) -> Path:
    """The folder that all the files share; of absolute and relative ones together, an absolute one."""
    if len({file.is_absolute() for file in files}) > 1:
        files = [absolute(file) for file in files]
    return Path(os.path.commonpath([file.parent for file in files])) if files else Path()


def absolute(file: Path) -> Path:
    """The path from the root, in one spelling however it was written."""
    return Path(os.path.abspath(file))


def check(files: Iterable[Path], max_pixels: int = rgb.MAX_PIXELS) -> None:
    """Raise DataError naming the pictures that are empty, are no pictures or are too large."""
    bad = [(file, why) for file in files if (why := _wrong(file, max_pixels))]
    if bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise DataError(f"picture {bad[0][0]} {bad[0][1]}{more}")


def _wrong(file: Path, max_pixels: int) -> str:
    try:
        if file.stat().st_size == 0:
            return "is empty (0 bytes)"
        with file.open("rb"):  # so that no permission to read is not taken for a broken picture
            rgb.header(file, max_pixels)
            return ""
    except rgb.BadPicture as error:
        return error.why
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
