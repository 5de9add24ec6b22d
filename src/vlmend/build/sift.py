"""Which drafts become rows: what is wrong with each by its texts, what is there twice, what a test set has.

Nothing is dropped unseen: each draft that is left out keeps its reasons, for the review page and the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmend.build.decisions import decisions_of
from vlmend.build.drafts import made, number_of
from vlmend.build.pipeline import Draft
from vlmend.data.checks.sights import see
from vlmend.data.checks.texts import check_texts, plain
from vlmend.data.perceptual import Gallery
from vlmend.errors import ConfigError, DataError
from vlmend.judge.refusals.languages import KNOWN, language
from vlmend.judge.refusals.opening import ruling
from vlmend.report.review import KEPT, Decision, ReviewItem, decided
from vlmend.types import Example, Image, Pair

Item = Example | Pair
SHOWN = 16  # pictures whose files are remembered to be there; the drafts of one start follow one another
BAD = (
    "non_utf8", "garbled_text", "image_token", "control_token", "placeholder_question", "placeholder_answer",
    "repeated_option",
)  # fmt: skip
"""Findings of `vlmend data check` that one draft alone can have, and that leave it out."""
REFUSALS = ("unexpected_refusal", "missing_refusal")
"""And those that do where the answer is not a word, such as the No of a question whether a picture is safe."""


@dataclass(frozen=True)
class Rules:
    """What a row may be. `language`: a code such as `en`, or any. Lengths are in words; `longest` 0 is any.

    tests: rows that must not be in the set: no draft may show one of their pictures, or ask what they ask of the same.
    """

    language: str = ""
    longest: int = 400
    tests: Sequence[Item] = ()

    def __post_init__(self) -> None:
        if self.language and self.language not in KNOWN:
            raise ConfigError(f"language {self.language!r} is not one that is told apart: {', '.join(KNOWN)}")


@dataclass
class Sifter:
    """Looks at one draft after the other, of all sets, and remembers what was there."""

    rules: Rules
    _seen: set[int] = field(default_factory=set[int])
    _pictures: frozenset[str] = frozenset()
    _gallery: Gallery | None = None
    _looked: dict[str, str] = field(default_factory=dict[str, str])
    _there: dict[Image, str] = field(default_factory=dict[Image, str])

    def __post_init__(self) -> None:
        pictures = list(dict.fromkeys(image for item in self.rules.tests for image in item.images))
        sights = [see(image) for image in pictures]
        self._pictures = frozenset(sight.sha256 for sight in sights if sight.sha256)
        self._gallery = Gallery(len(sights))
        for sight in sights:
            if sight.looks:
                self._gallery.add("", sight.looks)
        self._texts = {plain(item.question) for item in self.rules.tests if not item.images}

    def __call__(self, draft: Draft) -> tuple[str, ...]:
        """Why a draft is left out; nothing where it is kept."""
        row = draft.row
        if gone := [why for image in dict.fromkeys(row.images) if (why := self._gone(image))]:
            return (f"picture: {gone[0]}",)
        return tuple([*self._text(row), *self._length(row), *self._again(draft), *self._leaks(row)])

    def _gone(self, image: Image) -> str:
        """Why a picture cannot be shown as it was: its file was removed, or is another one now."""
        if image not in self._there:
            try:
                image.read()
                found = ""
            except DataError as error:
                found = str(error)
            self._there = {**(self._there if len(self._there) < SHOWN else {}), image: found}
        return self._there[image]

    def _text(self, row: Item) -> Iterator[str]:
        for finding in check_texts([row], lambda text: ruling(text).refused):
            if finding.kind in BAD or (finding.kind in REFUSALS and len(_references(row)) == 1):
                yield finding.kind
        if not row.question.strip() or not all(text.strip() for text in _answers(row)):
            yield "empty"
        if self.rules.language:
            for text in (row.question, *_answers(row)):
                found = language(text)
                if found.unknown or found.code not in ("", self.rules.language):
                    yield f"language: {found.unknown or KNOWN[found.code]}"
                    break

    def _length(self, row: Item) -> Iterator[str]:
        words = max(len(text.split()) for text in (row.question, *_answers(row)))
        if self.rules.longest and words > self.rules.longest:
            yield f"length: {words} words"

    def _again(self, draft: Draft) -> Iterator[str]:
        row = draft.row
        shown = "|".join(image.recorded or image.sha256 for image in row.images)
        mark = number_of(f"{draft.set}|{shown}|{row.meta.get('pair', '')}|{plain(row.question)}")
        if mark in self._seen:
            yield "duplicate: the same question about the same pictures"
        self._seen.add(mark)

    def _leaks(self, row: Item) -> Iterator[str]:
        if not self.rules.tests:
            return
        if any(image.sha256 in self._pictures for image in row.images):
            yield "leak: a picture of the test set"
        elif any(self._like(image) for image in row.images):
            yield "leak: a picture that looks like one of the test set"
        elif not row.images and plain(row.question) in self._texts:
            yield "leak: a question of the test set"

    def _like(self, image: Image) -> bool:
        if image.sha256 not in self._looked:
            sight = see(image)
            like = self._gallery is not None and sight.looks is not None and self._gallery.find(sight.looks) is not None
            self._looked = {image.sha256: "yes" if like else ""}  # the drafts of one start follow one another
        return bool(self._looked[image.sha256])


def _references(row: Item) -> tuple[str, ...]:
    return row.answers if isinstance(row, Example) else ()


def _answers(row: Item) -> tuple[str, ...]:
    return row.answers[:1] if isinstance(row, Example) else (row.chosen, row.rejected)


def item_id(draft: Draft) -> str:
    """What a draft is known by among those of all sets."""
    return f"{draft.set}/{draft.row.id}"


@dataclass(frozen=True)
class Sifted:
    """Why drafts are left out, by their ids; how many each set has, how many of them are kept, and others by reason.

    `decisions` are a person's, by the same ids; they come before `why`.
    """

    why: Mapping[str, tuple[str, ...]]
    drafts: Mapping[str, int]
    kept: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]]
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])

    def row(self, draft: Draft) -> tuple[Item, tuple[str, ...]]:
        """The row that becomes of a draft, and why it is left out; nothing where it is kept."""
        name = item_id(draft)
        made, why = self.decisions.get(name), self.why.get(name, ())
        if made is None:
            return draft.row, why
        item = decided(ReviewItem(name, draft.set, draft.row, why[0] if why else KEPT, why), made)
        about = {key: value for key, value in item.provenance.items() if value}
        row = draft.row if isinstance(item.row, str) else item.row
        return replace(row, meta={**row.meta, **about}), () if item.status == KEPT else item.why


def sift(out: Path, rules: Rules) -> Sifted:
    """Look at every draft of a run, and at what people decided about it."""
    sifter, decisions = Sifter(rules), decisions_of(out)
    why: dict[str, tuple[str, ...]] = {}
    drafts: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    sifted = Sifted(why, drafts, kept, reasons, decisions)
    for each in made(out):
        for draft in each.drafts:
            drafts[draft.set] += 1
            if found := sifter(draft):
                why[item_id(draft)] = found
            left_out = sifted.row(draft)[1]
            kept[draft.set] += not left_out
            if left_out:
                counts = reasons.setdefault(draft.set, Counter())
                counts.update(reason.partition(":")[0] for reason in left_out)
    return sifted


def kept(out: Path, sifted: Sifted, name: str) -> Iterable[Item]:
    """The rows of a set that are kept, in order, as people edited them."""
    for each in made(out):
        for draft in each.drafts:
            if draft.set == name:
                row, why = sifted.row(draft)
                if not why:
                    yield row
