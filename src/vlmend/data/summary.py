"""What is in a data set, in counts, in one pass that keeps no example: the object behind `vlmend data show`.

Memory does not grow with the examples but for 8 bytes per distinct picture and record. Labels and first words beyond
the first 10,000 different ones are counted together as `(others)`.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from vlmend.types import Example, Image, Pair

FIRST = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
MOST = 10_000  # different labels, or first words, that are told apart
OTHERS = "(others)"
LABELS = ("subset", "category", "subcategory")
T = TypeVar("T")


def summarize(spec: str, items: Iterable[Example | Pair]) -> dict[str, Any]:
    """Counts of a data set as JSON-able data. Needs no picture to be there; counts those that are not."""
    summary = Summary(spec)
    for item in items:
        summary.add(item)
    return summary.result()


def first_words(examples: Iterable[Example], top: int = 12) -> dict[str, dict[str, int]]:
    """The commonest first words of questions and how often each comes with what: a first look for shortcuts."""
    words = _Words()
    for example in examples:
        words.add(example.question, str(example.expected))
    return words.commonest(top)


class Distinct:
    """How many different texts were added, known by 64-bit hashes: 8 bytes each."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._sorted = 0

    def add(self, text: str) -> None:
        """Note a text."""
        self._hashes.append(hash(text) & 0xFFFF_FFFF_FFFF_FFFF)
        if len(self._hashes) > 2 * self._sorted + 100_000:
            self._sort()

    def __len__(self) -> int:
        self._sort()
        return self._sorted

    def _sort(self) -> None:
        import numpy as np

        self._hashes = array("Q", np.unique(np.frombuffer(self._hashes, dtype=np.uint64)).tobytes())
        self._sorted = len(self._hashes)


class Lengths:
    """Lengths in words, split at white space."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, text: str) -> None:
        """Note a text's length."""
        self._counts[len(text.split())] += 1

    def result(self) -> dict[str, float | int | None]:
        """Mean, median and maximum."""
        n = self._counts.total()
        if not n:
            return {"mean": None, "median": None, "max": None}
        middle = [self._at((n - 1) // 2), self._at(n // 2)]
        median = middle[0] if middle[0] == middle[1] else sum(middle) / 2
        mean = sum(length * count for length, count in self._counts.items()) / n
        return {"mean": round(mean, 1), "median": median, "max": max(self._counts)}

    def _at(self, rank: int) -> int:
        """The length at a rank, from 0, in rising order."""
        for length, count in sorted(self._counts.items()):
            if rank < count:
                return length
            rank -= count
        raise IndexError(rank)


class _Words:
    def __init__(self) -> None:
        self._found: dict[str, Counter[str]] = {}

    def add(self, question: str, label: str) -> None:
        word = FIRST.search(question.lower().replace("’", "'"))
        if word:
            self._found.setdefault(_capped(word[0], self._found), Counter())[label] += 1

    def commonest(self, top: int = 12) -> dict[str, dict[str, int]]:
        ranked = sorted(self._found.items(), key=lambda item: (-item[1].total(), item[0]))
        return {word: dict(sorted(counts.items())) for word, counts in ranked[:top]}


def _capped(key: str, known: dict[str, Any]) -> str:
    return key if key in known or len(known) < MOST else OTHERS


def _count(counts: Counter[str], key: str) -> None:
    if key:
        counts[_capped(key, counts)] += 1


@lru_cache(maxsize=4096)
def _is_file(path: str) -> bool:
    return os.path.isfile(path)


@dataclass
class Summary:
    """Counts that grow item by item. `split` is that of items which do not name one."""

    spec: str
    split: str = ""
    examples: int = 0
    pairs: int = 0
    unnamed: int = 0  # pictures made on demand
    recordless: int = 0  # items that do not say which record they are of: each is one
    records: Distinct = field(default_factory=Distinct)
    pictures: Distinct = field(default_factory=Distinct)
    missing: Distinct = field(default_factory=Distinct)
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {key: Counter() for key in ("split", *LABELS, "expected", "role")}
    )
    shown: Counter[int] = field(default_factory=Counter[int])
    words: dict[str, Lengths] = field(default_factory=lambda: {key: Lengths() for key in ("question", "answer")})
    firsts: _Words = field(default_factory=_Words)

    def add(self, item: Example | Pair) -> None:
        """Count one item."""
        images = item.images
        self.shown[len(images)] += 1
        for image in images:
            self._add_picture(image)
        record = item.meta.get("record")
        self.recordless += record is None
        if record is not None:
            self.records.add(record)
        for key in LABELS:
            _count(self.counts[key], getattr(item, key))
        _count(self.counts["split"], item.meta.get("split", self.split))
        _count(self.counts["role"], item.role.value)
        question = item.question
        self.words["question"].add(question)
        if isinstance(item, Example):
            self._add_example(item, question)
        else:
            self._add_pair(item, question)

    def _add_example(self, example: Example, question: str) -> None:
        self.examples += 1
        self.counts["expected"][example.expected.value] += 1
        self.firsts.add(question, example.expected.value)
        if example.answers:
            self.words["answer"].add(example.answers[0])

    def _add_pair(self, pair: Pair, question: str) -> None:
        self.pairs += 1
        self.firsts.add(question, "pair")
        for key in ("chosen", "rejected"):
            self.words.setdefault(key, Lengths()).add(getattr(pair, key))

    def _add_picture(self, image: Image) -> None:
        if image.path is None:
            self.unnamed += 1
            return
        path = str(image.path)
        self.pictures.add(path)
        if not _is_file(path):
            self.missing.add(path)

    def result(self) -> dict[str, Any]:
        """Everything counted, as JSON-able data."""
        counts = {key: dict(sorted(found.items())) for key, found in self.counts.items()}
        return {
            "source": self.spec,
            "examples": self.examples,
            "pairs": self.pairs,
            "records": len(self.records) + self.recordless,
            "images": len(self.pictures) + self.unnamed,
            "missing_images": len(self.missing),
            "splits": counts["split"],
            "subsets": counts["subset"],
            "categories": counts["category"],
            "subcategories": counts["subcategory"],
            "expected": counts["expected"],
            "roles": counts["role"],
            "images_per_example": {str(n): k for n, k in sorted(self.shown.items())},
            "words": {key: lengths.result() for key, lengths in self.words.items()},
            "first_words": self.firsts.commonest(),
        }


class Spread(Generic[T]):
    """At most `n` items, the groups taking turns, in the order of their ids' hashes: chosen by rule, never by hand."""

    def __init__(self, n: int, group: Callable[[T], str], name: Callable[[T], str]) -> None:
        self._n, self._group, self._name = n, group, name
        self._kept: list[tuple[str, str, T]] = []

    def add(self, item: T) -> None:
        """Offer an item."""
        self._kept.append(
            (self._group(item), hashlib.sha256(self._name(item).encode("utf-8", "replace")).hexdigest(), item)
        )
        if len(self._kept) > 2 * self._n + 64:
            self._kept = self._chosen()

    def __iter__(self) -> Iterator[T]:
        return (item for _, _, item in self._chosen())

    def _chosen(self) -> list[tuple[str, str, T]]:
        places: Counter[str] = Counter()
        ranked: list[tuple[int, str, tuple[str, str, T]]] = []
        for entry in sorted(self._kept, key=lambda entry: entry[:2]):
            ranked.append((places[entry[0]], entry[0], entry))
            places[entry[0]] += 1
        return [entry for _, _, entry in sorted(ranked, key=lambda rank: rank[:2])[: self._n]]
