"""Pictures that a data set is to be built about: where they come from, one after the other, each with an id for good.

A kind of origin is one file in `pictures`. None of them holds more than a folder's names in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from vlmend.data.export.album import kind_of
from vlmend.errors import UsageError
from vlmend.registry import picture_sources, sources
from vlmend.store import write_atomic
from vlmend.types import Image, TakesSpec

__all__ = ["Picture", "PictureSource", "StandsIn", "TakesSpec", "as_file", "kept", "pictures"]


@dataclass(frozen=True)
class Picture:
    """A picture, the id it has in every run, and what its origin tells about it."""

    id: str
    image: Image
    meta: Mapping[str, str] = field(default_factory=dict[str, str])


class PictureSource(Protocol):
    """An origin of pictures. Asked again it gives the same pictures under the same ids in the same order.

    What is no file yet, drawn, painted or fetched, it keeps in `folder` by content: rows show it for good.
    """

    def pictures(self, folder: Path) -> Iterator[Picture]: ...


@runtime_checkable
class StandsIn(PictureSource, Protocol):
    """A source that pays for its pictures: what is shown in their place where nothing may be asked."""

    def stand_ins(self) -> Iterator[Picture]: ...


def pictures(spec: str, folder: Path, *, dry: bool = False) -> Iterator[Picture]:
    """The pictures of a spec, `folder:DIR` or another of `vlmend list pictures`; `folder` is for those it makes.

    `dry`: where that would cost something, stand-ins.
    """
    name = spec.partition(":")[0]
    if name not in picture_sources.names() and name in sources.names():
        raise UsageError(f"{name} is a source of rows; what its rows show is source:{spec}")
    source: PictureSource = picture_sources.from_spec(spec)
    yield from source.stand_ins() if dry and isinstance(source, StandsIn) else source.pictures(folder)


def kept(data: bytes, folder: Path, *, drawn: bool = False) -> Image:
    """The picture as a file named by its content, which is written unless it is there already."""
    name = hashlib.sha256(data).hexdigest()
    file = folder / f"{name}.{kind_of(data)[0]}"
    if not file.is_file():
        write_atomic(file, data, sync=False)
    return Image(file, recorded=name, drawn=drawn)


def as_file(image: Image, folder: Path) -> Image:
    """The picture itself where it is a file, and otherwise kept as one."""
    return image if image.path else kept(image.read(), folder, drawn=image.drawn)
