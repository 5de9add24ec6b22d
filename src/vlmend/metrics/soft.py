"""VQA's soft accuracy: how far an answer agrees with those of several annotators (Antol et al. 2015, arXiv 1505.00468).

An answer is compared as visualqa.org describes it: lower case, without articles, periods that are no decimal point and
other punctuation, number words as digits, contractions with their apostrophe. Nothing here is learned or guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

ENOUGH = 3  # annotators who say the same make an answer fully right
ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = "zero one two three four five six seven eight nine ten"
DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())} | {"none": "0"}
MARKS = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_THOUSANDS = re.compile(r"\d,\d")

# Who may be contracted with what. A form that lacks its apostrophe and is a word of its own (well, were, ill,
# its, lets) stays that word.
_WOULD = "he i it she there they we who you somebody someone something"
_PARTS: dict[str, str] = {
    "'d": f"{_WOULD} how where", "'d've": f"{_WOULD} y'all", "'ll": "how it somebody someone something that they what "
    "who why y'all you", "'m": "i", "'re": "there they what who why you", "'s": "he how somebody someone something "
    "that there what when where who why", "'ve": "could i might must not should they we what where who would you",
    "n't": "are ca could did does do had has have is might must need ought sha was were wo would should ai",
    "n't've": "could had might should would", "'all": "y", "'am": "ma", "'clock": "o", "'twas": "",
}  # fmt: skip
_OWN_WORDS = frozenset({"id", "ill", "shed", "wed", "whore", "im", "ive", "idve"})


def _contractions() -> dict[str, str]:
    """Every contraction by each of its spellings that lacks one apostrophe."""
    found: dict[str, str] = {}
    for ending, starts in _PARTS.items():
        for start in starts.split() or [""]:
            whole = start + ending
            for place in (at for at, letter in enumerate(whole) if letter == "'"):
                spelled = whole[:place] + whole[place + 1 :]
                if spelled not in _OWN_WORDS:
                    found[spelled] = whole
    return found


CONTRACTIONS = _contractions()


def plain(text: str) -> str:
    """The answer as it is compared with others.

    Marks are left out where one of the kind stands beside a space, or where the answer has a number of thousands
    (`100,978`); elsewhere they part words.
    """
    kept = flat(text)
    thousands = _THOUSANDS.search(kept) is not None
    made = kept
    for mark in MARKS:
        beside = f"{mark} " in kept or f" {mark}" in kept
        made = made.replace(mark, "" if beside or thousands else " ")
    words = (DIGITS.get(word, word) for word in _PERIOD.sub("", made).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def flat(text: str) -> str:
    """The answer on one line."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def soft_accuracy(answer: str, given: Sequence[str], *, as_coded: bool = False) -> float | None:
    """Mean over annotators, each left out in turn, of min(1, how many of the others gave this answer / 3).

    Of ten annotators, m of whom agree with the answer, that is (m min(1, (m-1)/3) + (10-m) min(1, m/3)) / 10. None
    where there is nobody to leave out.

    `as_coded`: the published code compares answers letter by letter where all annotators gave the same.
    """
    if len(given) < 2:
        return None
    agreed = as_coded and len(set(map(flat, given))) == 1
    compared = flat if agreed else plain
    said, known = compared(answer), [compared(text) for text in given]
    matches = sum(text == said for text in known)
    return fmean(min(1.0, (matches - (text == said)) / ENOUGH) for text in known)
