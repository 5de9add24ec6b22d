"""What is handed to a backend, which may take it one by one: once it is stopped, there is no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Handout(Sequence[T]):
    """What is handed to a backend, which may take it one by one; once it is stopped, there is no more."""

    def __init__(self, items: Sequence[T]) -> None:
        self._items = items
        self.stopped = False

    def __iter__(self) -> Iterator[T]:
        for item in self._items:
            if self.stopped:
                return
            yield item

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: Any) -> Any:
        return self._items[place]
