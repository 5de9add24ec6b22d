"""All pictures in a folder and the folders inside it, in the order in which people count: 2.png before 10.png.

Links are followed, each folder entered once, so that a link to a folder above it ends nowhere. What is no picture by
its name is counted and said; hidden files are nobody's. Whether a file holds what its name says is found out by whoever
reads it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmend.build.picture import Picture
from vlmend.data.folders import SUFFIXES
from vlmend.data.notices import notice
from vlmend.errors import DataError
from vlmend.terminal import plural
from vlmend.types import Image

READ = (*SUFFIXES, ".tif", ".tiff")


@dataclass(frozen=True)
class Folder:
    """`folder:DIR`; ids are the names of the files from there."""

    path: Path

    def pictures(self, folder: Path) -> Iterator[Picture]:
        """Folder by folder, so that no more names are held than one folder has."""
        del folder
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}")
        others, found = Counter[str](), 0
        for name in _walk(self.path, "", set()):
            suffix = Path(name).suffix.lower()
            if not (self.path / name).is_file():
                others["broken links"] += 1
            elif suffix in READ:
                found += 1
                yield Picture(name, Image(self.path / name), {"file": name})
            else:
                others[suffix or "no suffix"] += 1
        if others:
            kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(others.items()))
            notice(self.path, f"left out {plural(sum(others.values()), 'file')} without a picture ({kinds})")
        if not found:
            raise DataError(f"there are no pictures in {self.path} (looked for {' '.join(READ)})")


plugin = Folder


def _walk(folder: Path, inside: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Names of files from the top folder on; `seen` are the folders entered so far."""
    about = folder.stat()
    if (about.st_dev, about.st_ino) in seen:
        return
    seen.add((about.st_dev, about.st_ino))
    try:
        names = sorted((name for name in os.listdir(folder) if not name.startswith(".")), key=_natural)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}") from error
    for name in names:
        place = folder / name
        if place.is_dir():
            yield from _walk(place, f"{inside}{name}/", seen)
        else:
            yield f"{inside}{name}"


def _natural(name: str) -> tuple[list[str | int], str]:
    """As people count; of names that count alike (1.png and 01.png), as letters go."""
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split(r"([0-9]+)", name))], name
