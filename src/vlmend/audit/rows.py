"""A data set as an audit reads it: labels, folds that cut no cluster, words. Pictures are named, not opened."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, islice
from typing import Any

import numpy as np

from vlmend.audit.measures import FOLDS, Bools, Ints, Labeled
from vlmend.data.summary import FIRST
from vlmend.errors import DataError
from vlmend.types import Example, Expected, Pair


def words(text: str) -> list[str]:
    """Lower-case words: runs of letters and digits with their apostrophes, curly ones taken for straight ones."""
    return FIRST.findall(text.lower().replace("’", "'"))


def opening(text: str, length: int) -> str:
    """The first words of a text; the empty string where it has none."""
    found = FIRST.finditer(text.lower().replace("’", "'"))
    return " ".join(match[0] for match in islice(found, length))


def numbered(names: Sequence[str]) -> tuple[list[str], Ints]:
    """The distinct names in order of their first use, and each one's number."""
    places: dict[str, int] = {}
    codes = [places.setdefault(name, len(places)) for name in names]
    return list(places), np.array(codes, dtype=np.int64)


@dataclass(frozen=True)
class Rows:
    """Examples of a source. What is to be refused, or reasoned about, counts as refused."""

    spec: str
    examples: tuple[Example, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def refused(self) -> Bools:
        """Which examples are not to be simply answered."""
        return np.array([example.expected is not Expected.ANSWER for example in self.examples], dtype=bool)

    @cached_property
    def clusters(self) -> list[str]:
        """What each example hangs together with: its cluster, else itself."""
        return [example.cluster or f"example {example.id}" for example in self.examples]

    @cached_property
    def labeled(self) -> Labeled:
        """Labels and clusters; the fold is a hash of the cluster."""
        folds = [zlib.crc32(name.encode("utf-8", "replace")) % FOLDS for name in self.clusters]
        return Labeled(self.refused, numbered(self.clusters)[1], np.array(folds, dtype=np.int64))

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each question."""
        return [words(example.question) for example in self.examples]

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every word of the questions, in order of first use."""
        return list(dict.fromkeys(word for said in self.words for word in said))

    @cached_property
    def bag(self) -> Any:
        """Which question says which word of the vocabulary, as a sparse 0/1 matrix."""
        return bag(self.words, self.vocabulary)

    @cached_property
    def pictures(self) -> list[str]:
        """The pictures of each example by their files' names, else by what it hangs together with."""
        return [
            "|".join(str(image.path) for image in example.images) if _files(example) else cluster
            for example, cluster in zip(self.examples, self.clusters, strict=True)
        ]

    def first_words(self, length: int = 1) -> list[str]:
        """The first words of each question."""
        return [" ".join(said[:length]) for said in self.words]

    def take(self, chosen: Bools) -> Rows:
        """Some of the examples."""
        taken = Rows(self.spec, tuple(compress(self.examples, chosen)))
        taken.__dict__["words"] = list(compress(self.words, chosen))  # as cached_property keeps them: not found anew
        return taken


def bag(said: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> Any:
    """Which document says which word of a vocabulary, as a sparse 0/1 matrix; other words are left out."""
    from scipy.sparse import csr_matrix

    place = {word: number for number, word in enumerate(vocabulary)}
    columns = [sorted({place[word] for word in document if word in place}) for document in said]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.fromiter((column for found in columns for column in found), dtype=np.int64, count=int(ends[-1]))
    return csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(said), len(vocabulary)))


def read(spec: str) -> Rows:
    """The examples of a source. Raises DataError for a source of preference pairs, which have no expected behavior."""
    from vlmend.data.dataset import read_any

    found: list[Example] = []
    for item in read_any(spec):
        if isinstance(item, Pair):
            raise DataError(
                f"{spec} holds preference pairs; an audit looks for what gives away whether to answer or to refuse, "
                "and a pair does not say which is expected"
            )
        found.append(item)
    return Rows(spec, tuple(found))


def _files(example: Example) -> bool:
    return bool(example.images) and all(image.path is not None for image in example.images)
