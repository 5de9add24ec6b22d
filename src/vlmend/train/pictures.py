"""Every picture of a run is opened once before the first step, so that none of them ends the run after some steps.

Threads decode them while the model loads. What the model's own processor refuses depends on a picture's size alone and
is asked of it once per size. Pictures that could be decoded are remembered by their content, in a file of the user's
cache: a run that goes on opens none of them again.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vlmend.data.progress import watched
from vlmend.errors import DataError
from vlmend.rgb import CHANGES, RULES
from vlmend.store import cache_folder
from vlmend.types import Example, Image

MOST_THREADS = 8
NAMED = 5  # pictures that an error names
Size = tuple[int, int]


@dataclass(frozen=True)
class Opened:
    """What came of opening a picture: (width, height) as shown, what was done to show it, or why it cannot be shown.

    No size is known of what is bad, or drawn and so not opened.
    """

    size: Size | None = None
    changes: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Found:
    """What is known of all pictures: of how many there are, what was done to how many, and the examples with bad ones.

    `bad` says of each such example, by id, which picture of it is bad and why.
    """

    different: int
    changes: Mapping[str, int]
    bad: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """What to say of pictures that are not shown as they are stored."""
        for change, what in CHANGES.items():
            if count := self.changes.get(change):
                yield f"{count:,} of {self.different:,} pictures {what}"

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the manifest."""
        return {"different": self.different, **self.changes, **({"skipped": dict(self.bad)} if self.bad else {})}


class Opening:
    """Opens the pictures of examples in threads, from `with` on; `found` waits for them.

    The `first` of several processes shows progress and remembers.
    """

    def __init__(self, examples: Sequence[Example], *, first: bool = True) -> None:
        self._examples, self._first = examples, first
        self._images = list(dict.fromkeys(image for example in examples for image in example.images))
        self._known = _Known()
        self._pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "pictures")
        self._opening: list[Future[Opened]] = []

    def __enter__(self) -> Self:
        self._opening = [self._pool.submit(self._open, image) for image in self._images]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _open(self, image: Image) -> Opened:
        if image.drawn:
            return Opened()
        try:
            known = self._known.get(image.sha256)
            if known is not None and known.size and math.prod(known.size) <= image.max_pixels:
                return known
            seen = image.seen()
        except DataError as error:
            return Opened(why=str(error))
        return Opened(seen.picture.size, tuple(seen.changes))

    def found(self, refuses: Callable[[Size], str]) -> Found:
        """What came of all pictures. `refuses` says why the model takes no picture of a size; empty when it does."""
        waited = watched(self._opening, "pictures opened:") if self._first else self._opening
        opened = {image: future.result() for image, future in zip(self._images, waited, strict=True)}
        if self._first:
            self._known.add({image.sha256: one for image, one in opened.items() if one.size})
        sizes = dict.fromkeys(one.size for one in opened.values() if one.size)
        refused = {size: why for size in sizes if (why := refuses(size))}
        bad: dict[str, str] = {}
        for example in self._examples:
            for image in example.images:
                if why := opened[image].why or _refused(image, opened[image].size, refused):
                    bad.setdefault(example.id, why)
        changes = Counter(change for one in opened.values() for change in one.changes)
        return Found(len(self._images), dict(sorted(changes.items())), bad)


def _refused(image: Image, size: Size | None, refused: Mapping[Size, str]) -> str:
    if size is None or size not in refused:
        return ""
    return f"image {image.name} is {size[0]:,} x {size[1]:,} pixels: {refused[size]}"


def complaint(found: Found, examples: int) -> DataError:
    """One line that names the examples whose pictures are bad, and says what can be done."""
    named = "; ".join(f"example {name!r}: {why}" for name, why in list(found.bad.items())[:NAMED])
    more = f"; and {len(found.bad) - NAMED:,} more" if len(found.bad) > NAMED else ""
    some = f"{len(found.bad):,} of {examples:,} examples have a picture that cannot be shown"
    return DataError(f"{some}: {named}{more}; mend them, or leave these rows out: --set data.bad_images=skip")


class _Known:
    """Pictures that could be decoded, by content hash, in a file that only grows. Losing it costs time alone."""

    def __init__(self) -> None:
        self._file: Path = cache_folder() / "pictures" / f"{RULES}-pillow-{version('pillow')}.jsonl"
        self._held = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Opened]]:
        try:
            lines = self._file.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                name, width, height, *changes = json.loads(line)
                yield str(name), Opened((int(width), int(height)), tuple(map(str, changes)))
            except (ValueError, TypeError):  # torn, as when the disk was full
                continue

    def get(self, name: str) -> Opened | None:
        return self._held.get(name)

    def add(self, opened: Mapping[str, Opened]) -> None:
        new = {name: one for name, one in opened.items() if name not in self._held}
        if not new:
            return
        text = "".join(_line(name, one) for name, one in new.items())
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as stream:
                stream.write(text.encode())
        except OSError:  # no room or no right to write: the next run opens them again
            return


def _line(name: str, one: Opened) -> str:
    return json.dumps([name, *(one.size or ()), *one.changes]) + "\n"
