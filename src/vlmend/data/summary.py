"""What is in a data set, in counts: the object behind `vlmend data show`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import mean, median
from typing import Any

from vlmend.data import pictures
from vlmend.types import Example

FIRST = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def summarize(spec: str, examples: Sequence[Example]) -> dict[str, Any]:
    """Counts of a data set as JSON-able data. Needs no picture to be there; counts those that are not."""
    files = pictures.paths(examples)
    made = sum(1 for e in examples for i in e.images if i.path is None)
    return {
        "source": spec,
        "examples": len(examples),
        "records": len({e.meta.get("record", e.id) for e in examples}),
        "images": len(files) + made,
        "missing_images": len(pictures.missing(files)),
        "subsets": _count(e.subset for e in examples),
        "categories": _count(e.category for e in examples),
        "subcategories": _count(e.subcategory for e in examples),
        "expected": _count(str(e.expected) for e in examples),
        "roles": _count(str(e.role) for e in examples),
        "images_per_example": {str(n): k for n, k in sorted(Counter(len(e.images) for e in examples).items())},
        "words": {
            "question": _lengths([e.question for e in examples]),
            "answer": _lengths([e.answers[0] for e in examples if e.answers]),
        },
        "first_words": first_words(examples),
    }


def first_words(examples: Iterable[Example], top: int = 12) -> dict[str, dict[str, int]]:
    """The commonest first words of questions and how often each comes with what: a first look for shortcuts."""
    found: dict[str, Counter[str]] = {}
    for example in examples:
        word = FIRST.search(example.question.lower().replace("’", "'"))
        if word:
            found.setdefault(word[0], Counter())[str(example.expected)] += 1
    ranked = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))
    return {word: dict(sorted(counts.items())) for word, counts in ranked[:top]}


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(value for value in values if value).items()))


def _lengths(texts: Sequence[str]) -> dict[str, float | int | None]:
    """Lengths in words, split at white space."""
    counts = [len(text.split()) for text in texts]
    if not counts:
        return {"mean": None, "median": None, "max": None}
    return {"mean": round(mean(counts), 1), "median": median(counts), "max": max(counts)}
