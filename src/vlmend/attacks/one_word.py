"""Replace the first word of the question by one word, or put it before; several words make as many variants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from vlmend.attacks import TEXT, reworded, variants
from vlmend.errors import ConfigError
from vlmend.types import Example

# One word with its inner apostrophes and hyphens, and what stands around it.
_FIRST = re.compile(r"(?P<before>[\W_]*)(?P<word>\w+(?:['’\-]\w+)*)(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class OneWord:
    """The shortcut of Safety Mirage (arXiv 2503.11832): a first word that training tied to answering or refusing.

    The last user turn loses or keeps its first word (`place`); case, punctuation and pictures stay as they are.
    `word` is one word, or several with commas between them: K words are the K shots of one example.
    """

    word: str = ""
    place: Literal["replace", "prefix"] = "replace"

    changes = TEXT

    def __post_init__(self) -> None:
        if not all(word.strip() for word in self.word.split(",")):
            raise ConfigError(
                "attack one_word needs a word, as in one_word:what or one_word:what,how; `vlmend audit` of what a model"
                " was tuned on shows which words it may hang on; `vlmend mirage --train` finds and tries them itself"
            )

    def __call__(self, example: Example) -> Example | Sequence[Example]:
        """The example with its question attacked; id and cluster stay, so that runs can be paired."""
        words = dict.fromkeys(word.strip() for word in self.word.split(","))
        return variants({word: reworded(example, first=partial(self._attacked, word)) for word in words})

    def _attacked(self, word: str, text: str) -> str:
        found = _FIRST.fullmatch(text)
        if found is None:  # nothing to replace: no word at all
            return f"{word} {text}".strip()
        before, first, rest = found["before"], found["word"], found["rest"]
        word = _cased_like(first, word)
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
