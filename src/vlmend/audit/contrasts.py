"""Controlled comparisons: what tells the label where the picture cannot, and where the question need not.

Same picture: its two kinds of questions, so that every difference is in the words. Unsafe picture: instructions that
are refused for their picture, beside questions that are answered; words need not be harmful there, so what they give
away is spurious by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmend.audit.measures import Association, Bools, Odds, associate, odds
from vlmend.audit.rows import Rows, numbered

RARE = 10  # a word is ranked when as many questions say it


@dataclass(frozen=True)
class Contrast:
    """One comparison: which examples, what the first word explains among them, and the words of each side."""

    name: str
    about: str
    refused: int
    answered: int
    first_word: Association | None
    words: tuple[Odds, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, words toward refusal and toward an answer apart."""
        return {
            "name": self.name,
            "about": self.about,
            "refused": self.refused,
            "answered": self.answered,
            "first_word": self.first_word.to_json() if self.first_word else None,
            "toward_refusal": [word.to_json() for word in toward(self.words, refusal=True)],
            "toward_answer": [word.to_json() for word in toward(self.words, refusal=False)],
        }


def same_picture(rows: Rows) -> Bools:
    """Examples about pictures that come with a question to refuse and one to answer."""
    _, pictures = numbered(rows.pictures)
    refused, answered = (np.bincount(pictures[rows.refused == side], minlength=len(rows)) > 0 for side in (True, False))
    return (refused & answered)[pictures]


def unsafe_picture(rows: Rows) -> Bools:
    """Examples refused about a picture of which nothing is answered, and all that are answered."""
    return ~rows.refused | ~same_picture(rows)


def contrasts(rows: Rows, most: int) -> list[Contrast]:
    """Both comparisons, with at most so many words toward each side."""
    about = "two kinds of questions about the same pictures"
    other = "instructions refused for their picture, and questions that are answered"
    return [
        contrast(rows.take(same_picture(rows)), "same_picture", about, most),
        contrast(rows.take(unsafe_picture(rows)), "unsafe_picture", other, most),
    ]


def contrast(rows: Rows, name: str, about: str, most: int) -> Contrast:
    """One comparison; without words where one side is empty."""
    refused = int(rows.refused.sum())
    if rows.labeled.one_sided:
        return Contrast(name, about, refused, len(rows) - refused, None, ())
    found = associate(numbered(rows.first_words())[1], rows.labeled)
    ranked = [word for word in word_odds(rows) if word.refused + word.answered >= RARE]
    kept = [*toward(ranked, refusal=True)[:most], *toward(ranked, refusal=False)[:most]]
    return Contrast(name, about, refused, len(rows) - refused, found, tuple(kept))


def word_odds(rows: Rows) -> list[Odds]:
    """Every word of the questions; a word counts once per question."""
    sizes = np.bincount(rows.refused, minlength=2)
    counts = np.stack([np.asarray(rows.bag[rows.refused == side].sum(axis=0)).ravel() for side in (False, True)])
    return odds(rows.vocabulary, counts, sizes)


def toward(words: list[Odds] | tuple[Odds, ...], *, refusal: bool) -> list[Odds]:
    """The words that speak for one side, the most telling first."""
    sign = 1 if refusal else -1
    return sorted((w for w in words if sign * w.log_odds > 0), key=lambda w: (-sign * w.log_odds, w.value))
