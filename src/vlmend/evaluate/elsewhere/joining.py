"""To which question an answer belongs: by id, by picture and by the words of the question, never by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from vlmend.evaluate.elsewhere.layouts import Said
from vlmend.types import Example

Key = tuple[str, int]


@dataclass(frozen=True)
class Joined:
    """Answers by example and sample, and what was left over."""

    answers: Mapping[Key, Said]
    unmatched: Sequence[Said]
    ambiguous: Sequence[Said]
    repeated: Sequence[Said]
    contradicting: Sequence[Said]

    def counts(self) -> dict[str, int | str]:
        """How many were left over, and where the first of them stands."""
        kinds = ("unmatched", "ambiguous", "repeated", "contradicting")
        left: dict[str, Sequence[Said]] = {kind: getattr(self, kind) for kind in kinds}
        first = next((rows[0].place for rows in left.values() if rows), "")
        return {kind: len(rows) for kind, rows in left.items()} | {"first": first}


def join(said: Iterable[Said], examples: Sequence[Example]) -> Joined:
    """Each answer with the one example that all it says of its question fits.

    An id fits where it is an example's, or the end of one from a `/` on, or the one its set is also known by
    (`meta["known_as"]`); pictures fit by the longest common end of their paths, all of them. What remains of several is
    told apart by subset and by the question's words, in which a prompt may have more around them.
    """
    index = _Index(examples)
    answers: dict[Key, Said] = {}
    left: dict[str, list[Said]] = {"unmatched": [], "ambiguous": [], "repeated": [], "contradicting": []}
    for row in said:
        found = index.fitting(row)
        if len(found) != 1:
            left["ambiguous" if found else "unmatched"].append(row)
            continue
        key = found[0].id, row.sample
        if key not in answers:
            answers[key] = row
        else:
            left["repeated" if answers[key].text == row.text else "contradicting"].append(row)
    return Joined(answers, **left)


class _Index:
    """Examples by the ends of their ids, by their pictures' file names and by their questions."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.by_id: dict[str, list[Example]] = {}
        self.by_picture: dict[str, list[Example]] = {}
        self.by_question: dict[str, list[Example]] = {}
        self.subsets = {example.subset for example in examples} - {""}
        for example in examples:
            for name in {*_ends(example.id), example.meta.get("known_as", example.id)}:
                self.by_id.setdefault(name, []).append(example)
            for name in {image.path.name for image in example.images if image.path}:
                self.by_picture.setdefault(name, []).append(example)
            self.by_question.setdefault(_words(example.question), []).append(example)

    def fitting(self, row: Said) -> list[Example]:
        found = self._by_evidence(row)
        if row.subset in self.subsets:
            found = [e for e in found if e.subset == row.subset]
        if len(found) > 1 and row.question:
            asked = _words(row.question)
            whole = [e for e in found if _words(e.question) == asked]
            found = whole or [e for e in found if _words(e.question) in asked or asked in _words(e.question)] or found
        return found

    def _by_evidence(self, row: Said) -> list[Example]:
        """What id and pictures say together; the question alone where there are neither."""
        named = self.by_id.get(row.id, []) if row.id else []
        whole = [e for e in named if row.id in (e.id, e.meta.get("known_as"))]
        named = whole or named
        if not row.pictures:
            return named if row.id and (named or not row.question) else self.by_question.get(_words(row.question), [])
        shown = _nearest(row.pictures, self.by_picture.get(PurePosixPath(row.pictures[0]).name, []))
        both = [e for e in shown if e in named]
        return both or shown


def _nearest(names: Sequence[str], candidates: Sequence[Example]) -> list[Example]:
    """Those that show all of these pictures and no others, in order, whose paths agree furthest from their end."""
    common: dict[int, list[Example]] = {}
    for example in candidates:
        paths = [image.path for image in example.images]
        if len(paths) != len(names):
            continue
        both = zip(paths, names, strict=True)
        shared = [_common(path.parts, PurePosixPath(name).parts) if path else 0 for path, name in both]
        if min(shared):
            common.setdefault(sum(shared), []).append(example)
    return common[max(common)] if common else []


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two paths share from their end."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _ends(name: str) -> list[str]:
    """The id, and what follows each of its slashes."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
