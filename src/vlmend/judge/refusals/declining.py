"""How likely an answer declines, for the answers that no rule is sure of: hashed n-grams and one weight for each.

Logistic regression on letters (2 to 5 in a row) and words (1 to 3) of an answer's first sentences, those of its opening
counted apart. The weights are in `declining.npz`, with no code in it; `bench/fit_refusals.py` makes them from answers
that were written for this project, which it holds. Nothing is learned from anybody's data set.
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION = 1
BITS = 16  # 2^16 weights
HEAD = 400  # letters that are read
OPENING = 60  # letters whose n-grams also count apart
WEIGHTS = Path(__file__).with_name("declining.npz")

_APOSTROPHES = str.maketrans({c: "'" for c in "’‘ʼ‛`´′＇"} | {c: '"' for c in "“”„‟«»「」『』"} | {"İ": "i"})
_QUOTED = re.compile(r"\"[^\"]{2,}\"|(?<!\w)'[^\"]{3,}?'(?!\w)")
_LONGEST = 1200  # letters of a text that are looked at

Ids = NDArray[np.uint64]
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_POWERS = np.cumprod(np.full(HEAD + 2, _PRIME))  # wraps around, as hashes do
_BLANK = np.uint64(32)
_PLACES = np.arange(HEAD + 2)
_SHIFT = np.uint64(64 - BITS)


class Weights(NamedTuple):
    """One weight for each bucket, and what an empty text has."""

    by_bucket: NDArray[np.float32]
    bias: float


def plain(text: str) -> str:
    """A text's beginning as it is read: lower-cased, with single blanks, and `""` for what it quotes.

    A text that is one quotation is the speaker's; so is one that begins with a quotation that does not end.
    """
    start = text[:_LONGEST]
    straight = start if start.isascii() else start.translate(_APOSTROPHES)
    found = " ".join(straight.lower().split()).lstrip("*#_>-( ")
    for mark in "\"'":
        inner = found.rstrip(" .!*_)")
        if found[:1] == mark and (mark not in found[1:] or (inner[-1:] == mark and mark not in inner[1:-1])):
            found = found.strip(mark + "*_ ")
    return _QUOTED.sub('""', found) if "'" in found or '"' in found else found


def buckets(plain: str) -> NDArray[np.int64]:
    """The bucket of each n-gram of a lower-cased text with single blanks. What falls into one bucket, shares it."""
    text = f" {plain[:HEAD].strip()} "
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    found = [*_letters(letters, np.uint64(0)), *_letters(letters[: OPENING + 1], _MIX), *_words(letters)]
    return ((np.concatenate(found) * _MIX) >> _SHIFT).view(np.int64)


def _letters(letters: Ids, salt: np.uint64) -> list[Ids]:
    """Hashes of every 2 to 5 neighboring letters."""
    found: list[Ids] = []
    running = letters + salt
    for n in range(2, min(5, len(letters)) + 1):
        running = running[:-1] * _PRIME + letters[n - 1 :]
        found.append(running)
    return found


def _words(letters: Ids) -> list[Ids]:
    """Hashes of every 1 to 3 neighboring words."""
    blanks = np.flatnonzero(letters == _BLANK)
    lengths = np.diff(blanks) - 1  # texts begin and end with a blank, and no two stand together
    if not len(lengths) or not lengths[0]:
        return []
    starts = blanks[:-1] + 1
    within = _PLACES[: len(letters) - 1] - np.repeat(blanks[:-1], lengths + 1)
    weighed = letters[:-1] * _POWERS[within]
    weighed[blanks[:-1]] = 0
    hashed = np.add.reduceat(weighed, starts) * _PRIME
    found, running = [hashed], hashed
    for n in range(2, min(3, len(hashed)) + 1):
        running = running[:-1] * _MIX + hashed[n - 1 :]
        found.append(running)
    return found


def probability(plain: str) -> float:
    """How likely the lower-cased text declines: the sum of its n-grams' weights over the root of their number."""
    weights, places = shipped(), buckets(plain)
    logit = float(weights.by_bucket.take(places).sum()) / max(len(places), 1) ** 0.5 + weights.bias
    return 1 / (1 + math.exp(-logit))


@cache
def shipped() -> Weights:
    """The weights that come with the package."""
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return Weights(stored["weights"].astype(np.float32) * np.float32(stored["scale"]), float(stored["bias"]))
