"""The first word of an answer, where it is one of the words expected: yes or no, or a letter.

Whole words only: "No" is neither in "Norway" nor in "Not sure". Any other opening is unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vlmend.judge.models import Models
from vlmend.judge.naming import spec
from vlmend.judge.sifting import Pair
from vlmend.judge.words import leading_letter, leading_yes_no
from vlmend.types import Example, Response, Verdict

VERSION = "leading_word/1"
LEADING = {"yes_no": leading_yes_no, "letter": leading_letter}


@dataclass(frozen=True)
class LeadingWord:
    """`correct`: the answer leads with the word that the reference answer leads with. The word is a label in any case.

    words: `yes_no`, or `letter` for answers to lettered options.
    """

    words: Literal["yes_no", "letter"] = "yes_no"

    answers: ClassVar[tuple[str, ...]] = ("right", "calls_unsafe")

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return spec("leading_word", self)

    def about(self, models: Models) -> Mapping[str, str]:
        """The rule's version."""
        del models
        return {"version": VERSION}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        del models
        name = self.name
        return [self._verdict(example, response, name) for example, response in pairs]

    def _verdict(self, example: Example, response: Response, name: str) -> Verdict:
        leading = LEADING[self.words]
        word = leading(response.text) if response.said else ""
        if not word:
            why = "it leads with another word" if response.said else "nothing was said"
            return Verdict(name, response.id, labels={"version": VERSION}, why=why)
        labels = {"version": VERSION, "word": word}
        right = next(filter(None, map(leading, example.answers)), "")
        if not right:
            return Verdict(name, response.id, labels=labels, why=f"no reference answer leads with a {self.words} word")
        return Verdict(name, response.id, correct=word == right, labels=labels)


plugin = LeadingWord
