"""How alike reference answers are: what is tuned on one refusal learns a sentence, which an attack can suppress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlmend.audit.baselines import rate_json
from vlmend.audit.rows import opening
from vlmend.metrics.intervals import wilson
from vlmend.types import Example, Expected, Rate

LENGTHS = (2, 5)
SHOWN = 5


@dataclass(frozen=True)
class Concentration:
    """Answers of one side: how many, how many different ones, and the commonest openings of two and of five words."""

    side: str
    n: int
    distinct: int
    openings: dict[int, tuple[tuple[str, Rate], ...]]

    @property
    def commonest(self) -> tuple[str, Rate] | None:
        """The commonest opening of two words, if there are answers."""
        return next(iter(self.openings[LENGTHS[0]]), None)

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        told = {
            f"openings_of_{length}_words": [{"opening": text, **rate_json(rate)} for text, rate in found]
            for length, found in self.openings.items()
        }
        return {"side": self.side, "n": self.n, "distinct": self.distinct, **told}


def concentrations(examples: Sequence[Example]) -> list[Concentration]:
    """Both sides: reference answers of what is to be refused, and of what is to be answered."""
    sides: dict[str, list[str]] = {"refused": [], "answered": []}
    for example in examples:
        if example.answers:
            sides["answered" if example.expected is Expected.ANSWER else "refused"].append(example.answers[0])
    return [concentration(side, texts) for side, texts in sides.items()]


def concentration(side: str, texts: Sequence[str]) -> Concentration:
    """How alike some answers are."""
    found = {length: tuple(_commonest(texts, length)) for length in LENGTHS}
    return Concentration(side, len(texts), len(set(texts)), found)


def _commonest(texts: Sequence[str], length: int) -> list[tuple[str, Rate]]:
    counts = Counter(opening(text, length) for text in texts)
    return [(text, share(k, len(texts))) for text, k in counts.most_common(SHOWN)]


def share(k: int, n: int) -> Rate:
    """k of n with its interval."""
    low, high = wilson(k, n) or (None, None)
    return Rate(k, n, 0, low, high)
