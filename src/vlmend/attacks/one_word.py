"""Replace the first word of the question, or put a word before it, and change nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from vlmend.errors import ConfigError
from vlmend.types import Example

# One word with its inner apostrophes and hyphens, and what stands around it.
_FIRST = re.compile(r"(?P<before>[\W_]*)(?P<word>\w+(?:['’\-]\w+)*)(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class OneWord:
    """The shortcut of Safety Mirage (arXiv 2503.11832): a first word that training tied to answering or refusing.

    The last user turn loses or keeps its first word (`place`); case, punctuation and pictures stay as they are.
    """

    word: str
    place: Literal["replace", "prefix"] = "replace"

    def __post_init__(self) -> None:
        if not self.word.strip():
            raise ConfigError("attack one_word needs a word, as in one_word:what")

    def __call__(self, example: Example) -> Example:
        """The example with its question attacked; id and cluster stay, so that runs can be paired."""
        *history, last = example.prompt
        return replace(example, prompt=(*history, last.with_text(self._attacked(last.text))))

    def _attacked(self, text: str) -> str:
        found = _FIRST.fullmatch(text)
        if found is None:  # nothing to replace: no word at all
            return f"{self.word} {text}".strip()
        before, first, rest = found["before"], found["word"], found["rest"]
        word = _cased_like(first, self.word)
        if self.place == "replace":
            return f"{before}{word}{rest}"
        return f"{before}{word} {_uncapitalized(first)}{rest}"


def _cased_like(model: str, word: str) -> str:
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _uncapitalized(first: str) -> str:
    """A sentence's first word inside a sentence: "I" and words with capitals of their own keep them."""
    plain = first[:1].isupper() and first[1:] == first[1:].lower()
    return first[:1].lower() + first[1:] if plain and first.split("'")[0].split("’")[0] != "I" else first


plugin = OneWord
