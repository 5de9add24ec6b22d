"""Which prompts are fed together: those that show the same pictures side by side, long ones first, within a budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from vlmend.errors import DataError
from vlmend.models.prompts import Prompt
from vlmend.types import Example, Message, conversation_key, digest

T = TypeVar("T")

NO_MEMORY = ("can't allocate memory", "out of memory")  # as the CPU's allocator and Apple's say it

say = logging.getLogger("vlmend").warning


class Line(NamedTuple):
    """One row of a batch: what it is for (by number), its prompt, and the group whose beginning it may share."""

    number: int
    prompt: Prompt
    group: str


@dataclass
class Budget:
    """At most `rows` rows, and `tokens` tokens with their padding and what is still to be said."""

    rows: int
    tokens: int

    def holds(self, lines: Sequence[Line], new: int) -> bool:
        """Whether these rows fit; one alone always may try."""
        return len(lines) <= 1 or (len(lines) <= self.rows and _cost(lines, new) <= self.tokens)

    def halve(self, lines: Sequence[Line], new: int) -> None:
        """Allow no more than half of what did not fit on the device."""
        self.tokens = max(1, min(self.tokens, _cost(lines, new)) // 2)
        say(
            "the device is out of memory with %d rows; going on with at most %d tokens at a time",
            len(lines), self.tokens,
        )  # fmt: skip


def _cost(lines: Sequence[Line], new: int) -> int:
    return len(lines) * (max(len(line.prompt) for line in lines) + new)


def opening(example: Example) -> str:
    """The same for examples that begin alike: up to the last picture, or, without pictures, up to the last turn."""
    try:
        return digest(conversation_key(_opening(example.prompt)))
    except DataError:
        return example.id  # it will fail to be encoded, which says why


def _opening(messages: Sequence[Message]) -> list[Message]:
    last = max((turn for turn, message in enumerate(messages) if message.images), default=None)
    if last is None:
        return list(messages[:-1])
    parts = messages[last].parts
    end = max(i for i, part in enumerate(parts) if not isinstance(part, str)) + 1
    return [*messages[:last], replace(messages[last], parts=parts[:end])]


def order(groups: Sequence[str], lengths: Sequence[int]) -> list[int]:
    """Indices in the order to work through: whole groups, the one with the longest prompt first, long prompts first.

    What does not fit on the device so shows at once.
    """
    longest: dict[str, int] = {}
    for group, length in zip(groups, lengths, strict=True):
        longest[group] = max(length, longest.get(group, 0))
    return sorted(range(len(groups)), key=lambda i: (-longest[groups[i]], groups[i], -lengths[i], i))


def batches(lines: Iterable[Line], budget: Budget, new: int) -> Iterator[list[Line]]:
    """Consecutive lines as large batches as the budget allows, read as they are needed.

    A group that would be cut goes into the next batch as a whole, unless that left this one less than half full.
    """
    batch: list[Line] = []
    for line in lines:
        if budget.holds([*batch, line], new):
            batch.append(line)
            continue
        start = next((i for i, other in enumerate(batch) if other.group == line.group), len(batch))
        whole = [*batch[start:], line]
        cut = start if 2 * start >= len(batch) and budget.holds(whole, new) else len(batch)
        yield batch[:cut]
        batch = [*batch[cut:], line]
    if batch:
        yield batch


def grouped(lines: Sequence[Line]) -> list[list[Line]]:
    """Consecutive lines of the same group."""
    return [list(group) for _, group in groupby(lines, key=lambda line: line.group)]


def attempt(
    lines: list[Line], budget: Budget, new: int, work: Callable[[list[Line]], list[T]], fail: Callable[[Line], T]
) -> Iterator[list[T]]:
    """Work on a batch; where it does not fit on the device, on halves of it, down to single rows, which then fail."""
    import torch

    try:
        done = work(lines)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise
        done = None
    if done is not None:
        yield done
        return
    if torch.accelerator.is_available():
        device: Any = torch.get_device_module()
        getattr(device, "empty_cache", lambda: None)()
    if len(lines) == 1:
        yield [fail(lines[0])]
        return
    budget.halve(lines, new)
    middle = len(lines) // 2
    for half in (lines[:middle], lines[middle:]):
        yield from attempt(half, budget, new, work, fail)
