"""Pictures stay in the data's own folder: a file of rows must not name whatever else lies on the machine.

A set may come from anywhere, and what its rows name is shown to a model, which may be on another machine. So a picture
has to lie in the folder of the rows, or in one that the spec names (`images=DIR`, and other folders a source is given),
links followed. `allow_outside=true` behind any source's spec lifts that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from vlmend.errors import DataError, UsageError, brief
from vlmend.registry import Spec
from vlmend.types import Example, Pair

OPTION = "allow_outside"
T = TypeVar("T", bound=Example | Pair)


def taken_out(spec: Spec) -> tuple[Spec, bool]:
    """The spec without the option, and whether pictures may lie outside. Raises UsageError for another value."""
    given = [value for key, value in spec.options if key == OPTION]
    if any(value not in ("true", "false") for value in given):
        raise UsageError(f"{OPTION} should be true or false, is {brief(given[-1])}")
    left = tuple((key, value) for key, value in spec.options if key != OPTION)
    return spec._replace(options=left), given[-1:] == ["true"]


def folders_of(source: object) -> tuple[Path, ...]:
    """Every folder that a source was given, or that a file it was given lies in."""
    values = vars(source).values() if hasattr(source, "__dict__") else ()
    named = (Path(v) for v in values if isinstance(v, Path) or (isinstance(v, str) and v and os.path.isdir(v)))
    return tuple(_root(_here(path)) for path in named)


def confined(items: Iterable[T], folders: Iterable[Path], spec: str) -> Iterator[T]:
    """The items. Raises DataError at the first one that names a picture outside of all folders."""
    roots = tuple(folders)
    for item in items:
        for image in item.images:
            if image.path is not None and not _inside(image.path, roots):
                where = " and ".join(map(str, roots)) or "any folder that the spec names"
                mark = "&" if "?" in spec else "?"
                raise DataError(
                    f"{brief(item.id)} names the picture {str(image.path)!r}, which lies outside of {where}; if "
                    f"that is meant, say so: '{spec}{mark}{OPTION}=true'"
                )
        yield item


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a picture lies in a folder, links followed."""
    return _inside(path, (_root(_here(folder)),))


def _inside(path: Path, roots: tuple[Path, ...]) -> bool:
    real = _real(_here(path))
    return any(real.startswith(_below(root)) for root in roots)


def _here(path: Path) -> str:
    """From the root on, so that what is remembered of it holds in another working directory, too."""
    return os.path.join(os.getcwd(), path)


@lru_cache(maxsize=256)
def _below(root: Path) -> str:
    return str(root) if root.parent == root else f"{root}{os.sep}"


@lru_cache(maxsize=4096)
def _real(path: str) -> str:
    """Where a path leads, links followed; folders are asked once."""
    head, tail = os.path.split(path)
    if ".." in path or os.path.islink(path):  # `x/..` is not where x is when x is a link
        return os.path.realpath(path)
    return os.path.join(_folder(head), tail)


@lru_cache(maxsize=4096)
def _folder(text: str) -> str:
    return os.path.realpath(text)


@lru_cache(maxsize=256)
def _root(text: str) -> Path:
    """The folder itself, or a file's. A download in the hub's cache is links to files that lie beside it."""
    path = Path(os.path.abspath(text))
    folder = Path(_folder(str(path.parent if path.is_file() else path)))
    above = next((p for p in folder.parents if p.name == "snapshots"), None)
    return above.parent if above is not None and (above.parent / "blobs").is_dir() else folder
