"""Everything about an example that a model could take for its label, as one value per example and feature."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from vlmend.audit.looks import NUMBERS, Look, Looks
from vlmend.audit.measures import Bools, Floats, Ints
from vlmend.audit.rows import Rows, numbered, opening
from vlmend.types import Example

Side = Literal["question", "picture", "answer"]
BINS = 10
MARKS = re.compile(r"[^\w\s]")
NONE = "(none)"
LOOK_NAMES = tuple(f"picture {name}" for name in NUMBERS)


@dataclass(frozen=True)
class Feature:
    """One value per example, as numbers of `values`; only of `rows`, where not all examples have one.

    What is on the side of the answer follows from the label, so it is described and never called a shortcut.
    """

    name: str
    side: Side
    values: tuple[str, ...]
    codes: Ints
    rows: Bools | None = None


def question_features(rows: Rows, length: int) -> Iterator[Feature]:
    """First words, length and punctuation."""
    questions = [example.question for example in rows.examples]
    yield named("first word", "question", rows.first_words())
    for n in range(2, length + 1):
        yield named(f"first {n} words", "question", rows.first_words(n))
    yield binned("length in words", "question", [len(said) for said in rows.words])
    yield binned("length in characters", "question", [len(text) for text in questions])
    yield named("last character", "question", [_last(text) for text in questions])
    yield named("punctuation marks", "question", ["".join(sorted(set(MARKS.findall(text)))) for text in questions])
    yield named("first letter", "question", [_case(text) for text in questions])
    yield named("turns", "question", [str(len(example.prompt)) for example in rows.examples])


def picture_features(rows: Rows, looks: Looks | None) -> Iterator[Feature]:
    """What is known of pictures: folder and number always, size, format and colors where they could be read."""
    yield named("number of pictures", "picture", [str(len(example.images)) for example in rows.examples])
    yield named("picture folder", "picture", folders(rows.examples))
    yield named("picture file type", "picture", [_suffix(example) for example in rows.examples])
    if looks is None or not looks.seen.any():
        return
    seen = [look for look in looks.found if look is not None]
    kinds: dict[str, Callable[[Look], str]] = {
        "picture size": lambda look: f"{look.width}x{look.height}",
        "picture format": lambda look: look.format,
    }
    for name, value in kinds.items():
        yield named(name, "picture", [value(look) for look in seen], looks.seen)
    yield binned("picture pixels", "picture", [look.width * look.height for look in seen], looks.seen)
    for number, name in enumerate(LOOK_NAMES):
        yield binned(name, "picture", looks.numbers[:, number].tolist(), looks.seen)


def answer_features(rows: Rows) -> Iterator[Feature]:
    """How reference answers begin, and how long they are."""
    has = np.array([bool(example.answers) for example in rows.examples], dtype=bool)
    texts = [example.answers[0] for example in rows.examples if example.answers]
    if texts:
        yield named("response prefix", "answer", [opening(text, 2) for text in texts], has)
        yield binned("response length in words", "answer", [len(text.split()) for text in texts], has)


def folders(examples: Sequence[Example]) -> list[str]:
    """The folder of each example's first picture."""
    first = [example.images[0].path if example.images else None for example in examples]
    return [path.parent.name if path is not None else "" for path in first]


def named(name: str, side: Side, given: Sequence[str], rows: Bools | None = None) -> Feature:
    """A feature from one text per example."""
    values, codes = numbered([text or NONE for text in given])
    return Feature(name, side, tuple(values), codes, rows)


def binned(name: str, side: Side, given: Sequence[float], rows: Bools | None = None) -> Feature:
    """A feature from one number per example, cut at its deciles: never with a look at the label."""
    numbers = np.asarray(given, dtype=np.float64)
    edges = cuts(numbers)
    codes = np.searchsorted(edges, numbers, side="left").astype(np.int64)
    return Feature(name, side, tuple(ranges(edges)), codes, rows)


def cuts(numbers: Floats) -> Floats:
    """The distinct inner deciles below the maximum: a value belongs to the first edge that is not below it."""
    inner = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    return inner[inner < numbers.max()]


def ranges(edges: Floats) -> list[str]:
    """`≤ 5`, `5 … 8`, `> 8`."""
    told = [f"{edge:.4g}" for edge in edges]
    if not told:
        return ["all"]
    between = [f"{low} … {high}" for low, high in pairwise(told)]
    return [f"≤ {told[0]}", *between, f"> {told[-1]}"]


def _last(text: str) -> str:
    end = text.rstrip()[-1:]
    return end if MARKS.match(end) else ("letter" if end else "")


def _case(text: str) -> str:
    start = text.strip()[:1]
    return "upper case" if start.isupper() else "lower case" if start.islower() else "no letter"


def _suffix(example: Example) -> str:
    path = example.images[0].path if example.images else None
    return path.suffix.lower() if path is not None else ""
