"""The kinds of defect, how grave each is, and what is reported of one. A kind that is not listed here is not found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from vlmend.terminal import counted
from vlmend.types import Example, Pair

Item = Example | Pair
Severity = Literal["error", "warning", "note"]
SHORT = 60  # characters of a text that a message quotes


class Kind(NamedTuple):
    """How grave a defect is, and whether a cleaned copy leaves out what has it.

    An error breaks training or makes it wrong; a warning deserves a look; a note is worth knowing. What is only
    suspicious stays in a cleaned copy, whatever its severity.
    """

    severity: Severity
    dropped: bool


KINDS = {
    "missing_picture": Kind("error", True),
    "unreadable_picture": Kind("error", True),
    "truncated_picture": Kind("error", True),
    "huge_picture": Kind("error", True),
    "transparent_picture": Kind("note", False),
    "deep_picture": Kind("note", False),
    "several_frames": Kind("note", False),
    "other_colors": Kind("note", False),
    "rotated_picture": Kind("note", False),
    "narrow_picture": Kind("warning", False),
    "blank_picture": Kind("warning", False),
    "duplicate_picture": Kind("warning", False),
    "similar_picture": Kind("note", False),
    "picture_listed_twice": Kind("warning", False),
    "repeated_picture": Kind("warning", False),
    "ambiguous_id": Kind("error", True),
    "duplicate_id": Kind("warning", True),
    "duplicate_example": Kind("warning", True),
    "contradictory_labels": Kind("error", True),
    "contradictory_categories": Kind("warning", False),
    "same_answers": Kind("error", True),
    "non_utf8": Kind("error", True),
    "garbled_text": Kind("warning", False),
    "image_token": Kind("error", True),
    "control_token": Kind("warning", False),
    "empty_question": Kind("warning", True),
    "empty_answer": Kind("warning", True),
    "placeholder_question": Kind("warning", True),
    "placeholder_answer": Kind("warning", True),
    "unexpected_refusal": Kind("warning", False),
    "missing_refusal": Kind("warning", False),
    "boilerplate_answer": Kind("warning", False),
    "repeated_option": Kind("warning", False),
    "leaked_example": Kind("error", True),
    "leaked_picture": Kind("error", True),
    "leaked_similar_picture": Kind("warning", True),
    "leaked_text": Kind("warning", False),
    "leaked_cluster": Kind("warning", False),
    "not_compared": Kind("warning", False),
}


@dataclass(frozen=True)
class Finding:
    """One kind of defect. `count` is of what the message counts (pictures, records, questions …); `ids` names all
    examples concerned."""

    kind: str
    count: int
    ids: tuple[str, ...]
    message: str

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return KINDS[self.kind].severity

    def to_json(self) -> dict[str, Any]:
        """The finding as plain data."""
        named = {"kind": self.kind, "severity": self.severity, "count": self.count}
        return {**named, "ids": list(self.ids), "message": self.message}


def found(kind: str, ids: Iterable[str], message: str, *, count: int | None = None) -> Iterator[Finding]:
    """The finding, or nothing when it is about nothing; `{n}` in the message is the count (of ids, unless given)."""
    names = tuple(dict.fromkeys(ids))
    number = len(names) if count is None else count
    if number:
        yield Finding(kind, number, names, counted(number, message))


def answers(item: Item) -> tuple[str, ...]:
    """Every reference answer, and those to avoid: of a pair, the chosen and the rejected one."""
    return (*item.answers, *item.avoid) if isinstance(item, Example) else (item.chosen, item.rejected)


def quote(text: str) -> str:
    """A text as a message shows it: one line, not long, printable."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    return f"'{line}'" if len(line) <= SHORT else f"'{line[:SHORT]}…'"
