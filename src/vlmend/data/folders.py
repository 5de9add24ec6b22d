"""Folders of pictures: which there are, in what order, and what the folder they lie in says that they show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vlmend.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
SYNSET = re.compile(r"n\d{8}")
NAMES = ("LOC_synset_mapping.txt", "words.txt", "synset_words.txt")  # `n01440764 tench, Tinca tinca`


def pictures_in(folder: Path) -> list[Path]:
    """Names of all pictures below a folder, as people count: 2.png before 10.png. Raises DataError without any."""
    files = [f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise DataError(f"there are no pictures in {folder} (looked for {' '.join(SUFFIXES)})")
    return sorted((f.relative_to(folder) for f in files), key=lambda name: _natural(name.as_posix()))


def _natural(name: str) -> list[str | int]:
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split(r"(\d+)", name))]


def concept_of(place: Path, names: Mapping[str, str]) -> str:
    """What a folder says that its pictures show: its path, or a synset's first name; nothing where that is not told."""
    if SYNSET.fullmatch(place.name):
        return names.get(place.name, "").partition(",")[0].strip()
    return "" if place == Path() else place.as_posix().replace("_", " ")


def synsets(folder: Path) -> dict[str, str]:
    """Names of ImageNet's synsets, from the list that lies in the folder or in one of two above; none without it."""
    places = (above / name for above in (folder, *folder.absolute().parents[:2]) for name in NAMES)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return {}
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    split = (re.split(r"[\s]+", line.strip(), maxsplit=1) for line in lines if line.strip())
    return {key: name for key, name in (pieces for pieces in split if len(pieces) == 2) if SYNSET.fullmatch(key)}
