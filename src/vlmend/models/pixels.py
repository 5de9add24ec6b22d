"""Pictures that come several times in a row are decoded, resized and normalized once."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlmend.types import Example, Image, Part

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True)
class _Open(Image):
    """A picture that stays decoded."""

    @cached_property
    def _picture(self) -> Picture:
        return super().open()

    def open(self) -> Picture:
        return self._picture


@dataclass(frozen=True)
class _Blank(Image):
    """Nothing to be seen, never encoded as a file."""

    shape: tuple[int, int] = (1, 1)

    def open(self) -> Picture:
        from PIL import Image as Pillow

        return Pillow.new("RGB", self.shape)


def blank(size: tuple[int, int]) -> Image:
    """A black picture of (width, height), for what depends on sizes alone."""
    return _Blank(make=bytes, shape=size)


class LastPictures:
    """What the last example with pictures needed of them; the next one may show the same."""

    def __init__(self) -> None:
        self._opened: dict[str, Image] = {}
        self._asked: tuple[list[Any], dict[str, Any]] = ([], {})
        self._made: Any = None

    def opened(self, example: Example) -> Example:
        """The example with pictures that are decoded at most once. Raises DataError for one that cannot be read."""
        if not example.images:
            return example
        before = self._opened
        self._opened = {
            i.sha256: before.get(i.sha256) or _Open(i.path, i.make, i.recorded, i.max_pixels) for i in example.images
        }
        turns = [replace(m, parts=tuple(map(self._part, m.parts))) for m in example.prompt]
        return replace(example, prompt=tuple(turns))

    def _part(self, part: Part) -> Part:
        return self._opened[part.sha256] if isinstance(part, Image) else part

    @contextmanager
    def remembered(self, processor: Any) -> Generator[None]:
        """While this lasts, the image processor gives again what it gave for the same pictures."""
        inner = getattr(processor, "image_processor", None)
        if inner is None:
            yield
            return
        processor.image_processor = _Remembering(inner, self)
        try:
            yield
        finally:
            processor.image_processor = inner

    def process(self, inner: Any, images: Any, settings: dict[str, Any]) -> Any:
        """What the image processor makes of the pictures: of the very same ones, what it made of them before."""
        shown, (before, how) = _flat(images), self._asked
        same = len(shown) == len(before) and all(a is b for a, b in zip(shown, before, strict=True))
        if not same or settings != how or not shown:
            self._asked, self._made = (shown, dict(settings)), inner(images, **settings)
        made = copy.copy(self._made)
        made.data = dict(self._made.data)
        return made


class _Remembering:
    """An image processor that asks `LastPictures` first."""

    def __init__(self, inner: Any, last: LastPictures) -> None:
        self._inner, self._last = inner, last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, images: Any, **settings: Any) -> Any:
        return self._last.process(self._inner, images, settings)


def _flat(images: Any) -> list[Any]:
    return [deep for item in images for deep in _flat(item)] if isinstance(images, list | tuple) else [images]
