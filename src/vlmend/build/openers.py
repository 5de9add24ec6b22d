"""The word that an instruction begins with: drawn from what it is about, not from what is to be said to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from vlmend.types import digest

Openers = Literal["balanced", "free"]
WORDS = (
    "What", "How", "Share", "Describe", "Explain", "Tell", "Give", "List", "Write", "Can", "Could", "Which", "Why",
    "Suggest", "Help", "Show",
)  # fmt: skip
_FIRST = re.compile(r"\w+(?:'\w+)?")


class Opener(NamedTuple):
    """The word, or none; and what a prompt says of it."""

    word: str
    told: str


FREE = Opener("", "Vary how instructions begin.")


def opener_for(about: str, openers: Openers, words: Sequence[str] = WORDS) -> Opener:
    """The word for all instructions about one thing, each of the words as likely as any other."""
    if openers == "free":
        return FREE
    word = words[int(digest("opener", about)[:8], 16) % len(words)]
    return Opener(word, f"The instruction begins with the word “{word}”.")


def begins_with(opener: Opener, given: object) -> str:
    """What is wrong with how an instruction begins; nothing where nothing is."""
    text = str(getattr(given, "instruction", ""))
    first = _FIRST.search(text)
    if opener.word and (first is None or first[0].lower() != opener.word.lower()):
        return f'"instruction" should begin with the word “{opener.word}”'
    return ""
