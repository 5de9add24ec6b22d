"""A data set by spec: read it, cut it, refuse what is broken, and know what exactly it was.

load("vlguard:data/VLGuard#train[:80%]", missing_images="placeholder")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlmend.data import pictures, placeholder
from vlmend.data.slices import Slice, parse_split
from vlmend.errors import DataError
from vlmend.registry import Spec, sources
from vlmend.types import Example, Image, digest

MissingImages = Literal["error", "placeholder"]


@dataclass(frozen=True)
class Dataset:
    """Examples whose pictures are there, or are stand-ins (`placeholders` counts those, by picture)."""

    spec: str
    examples: tuple[Example, ...]
    placeholders: int
    fingerprint: str

    @property
    def warning(self) -> str:
        """What to say loudly about stand-in pictures; empty when there are none."""
        return placeholder.warning(self.placeholders)


def load(spec: str, *, missing_images: MissingImages = "error") -> Dataset:
    """Read a source and check its pictures. Raises DataError when a picture is missing, empty or no picture.

    With `placeholder`, a missing picture becomes a fixed pattern of its own; a broken one is still an error.
    """
    return with_pictures(spec, read(spec), missing_images=missing_images)


def with_pictures(spec: str, examples: tuple[Example, ...], *, missing_images: MissingImages) -> Dataset:
    """The data set of some of a source's examples, their pictures checked or stood in for; others are not looked at."""
    needed = pictures.paths(examples)
    absent = pictures.missing(needed)
    if absent and missing_images == "error":
        raise pictures.complain(len(examples), len(needed), absent)
    gone = set(absent)
    pictures.check(file for file in needed if file not in gone)
    fingerprint = fingerprint_of(examples)
    if absent:
        # A stand-in must not depend on what was chosen, so pictures are named from the folder of the whole source.
        root = placeholder.root_of(pictures.paths(_open(spec)[0]))
        examples = tuple(placeholder.fill(e, gone, root) for e in examples)
    return Dataset(spec, examples, len(absent), fingerprint)


def read(spec: str) -> tuple[Example, ...]:
    """The examples of a source as they are written, pictures not looked at."""
    source, cut = _open(spec)
    return _checked(spec, tuple(source if cut is None else cut(source)))


def _open(spec: str) -> tuple[Iterable[Example], Slice | None]:
    parsed = Spec.parse(spec)
    split, cut = parse_split(parsed.split)
    if cut is None:
        return sources.from_spec(spec), None
    bare = f"{parsed.name}:{parsed.argument}" + (f"#{split}" if split else "")
    options = "&".join(f"{key}={value}" for key, value in parsed.options)
    return sources.from_spec(f"{bare}?{options}"), cut


def _checked(spec: str, examples: tuple[Example, ...]) -> tuple[Example, ...]:
    if not examples:
        raise DataError(f"{spec} has no examples")
    refuse_duplicates(examples, spec)
    return examples


def refuse_duplicates(examples: Sequence[Example], where: str) -> None:
    """Raise DataError when an id occurs twice: everything is joined by id."""
    seen: set[str] = set()
    twice = [e.id for e in examples if e.id in seen or seen.add(e.id)]
    if twice:
        raise DataError(f"{where} uses {len(twice):,} ids more than once, first {twice[0]!r}; ids must be unique")


def fingerprint_of(examples: Iterable[Example]) -> str:
    """Hash of every id, text and label, and of each picture's name and size in bytes (its id when made on demand)."""
    sizes: dict[Path, int] = {}
    return digest([_essence(e, sizes) for e in examples])


def _essence(example: Example, sizes: dict[Path, int]) -> list[object]:
    said = [[m.role, *(_name(p, sizes) if isinstance(p, Image) else p for p in m.parts)] for m in example.prompt]
    labels = [example.expected, example.subset, example.category, example.subcategory, example.cluster, example.role]
    return [example.id, said, list(example.answers), labels]


def _name(image: Image, sizes: dict[Path, int]) -> list[object]:
    if image.path is None:
        return ["made"]
    if image.path not in sizes:
        sizes[image.path] = image.path.stat().st_size if image.path.is_file() else -1
    return [image.path.name, sizes[image.path]]
