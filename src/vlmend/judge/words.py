"""Leading words, whole: "No" is neither in "Norway" nor in "Not sure", and the "A" of "A cat" is no letter.

And when two answers are the same.
"""

from __future__ import annotations

import re

APOSTROPHES = str.maketrans("’‘“”", "''\"\"")
_MARKUP = r"^[\s\"'“”‘’*_#>`~-]*"
_YES_NO = re.compile(_MARKUP + r"(yes|no)\b(?![-'’]\w)", re.IGNORECASE)
# A letter needs a sign that it is one: brackets, punctuation, the end of its line, or a verb.
_LETTER = re.compile(
    _MARKUP + r"(?:\(([A-Z])\)|\[([A-Z])\]|(?:[Oo]ption\s+)?([A-Z])(?=\s*[.):,;*_]|\s*$|\s*\n|\s+(?:is|was)\b))"
)


def leading_yes_no(text: str) -> str:
    """`yes` or `no` where the text leads with it, or the empty string."""
    found = _YES_NO.match(text)
    return found[1].casefold() if found else ""


def leading_letter(text: str) -> str:
    """The capital letter that the text leads with, or the empty string."""
    found = _LETTER.match(text)
    return next(filter(None, found.groups()), "") if found else ""


def normal(text: str) -> str:
    """The text without case, outer quotes, surplus white space and final punctuation."""
    plain = " ".join(text.translate(APOSTROPHES).casefold().split())
    return plain.strip("\"' ").rstrip(".!?,;: ").strip("\"' ")
