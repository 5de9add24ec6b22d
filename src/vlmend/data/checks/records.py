"""Defects of how examples relate to one another: ids, repetitions, labels that contradict."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import accumulate

from vlmend.data.checks.finding import Finding, Item, answers, found
from vlmend.data.checks.sights import Sights
from vlmend.data.checks.texts import plain
from vlmend.data.preferences import alike
from vlmend.types import Example, Expected, Image

EXCEPTION = 0.1  # up to this share of pictures listed by several records it is a slip, above it is the design
_REPEAT = re.compile(r"~\d+(?=/|$)")  # how sources mark an id that a record before had: `name~2/turn`


def check_records(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Everything that is found by comparing examples."""
    yield from ids(items)
    yield from listed_twice(items)
    yield from shown_twice(items, sights)
    yield from repetitions(items, sights)
    yield from contradictions(items, sights)
    yield from same_answers(items)


def ids(items: Sequence[Item]) -> Iterator[Finding]:
    """Published ids that come up again: told apart by the source, or not even that."""
    seen: set[str] = set()
    twice = [item.id for item in items if item.id in seen or seen.add(item.id)]
    yield from found("ambiguous_id", twice, "{n} ids are used by several examples and cannot be told apart")
    heads = {head for name in seen for head in accumulate(name.split("/"), "{}/{}".format)}
    marked = {i.id: record for i in items if (record := _repeated(i.id, heads))}
    given: set[str] = set()
    marked |= {i.id: i.id for i in items if (name := i.meta.get("given_id")) and (name in given or given.add(name))}
    message = "{n} records repeat an id that an earlier record has"
    yield from found("duplicate_id", marked, message, count=len(set(marked.values())))


def _repeated(name: str, heads: set[str]) -> str:
    """The record of an id that is marked as repeated, when the one it repeats is there; else nothing."""
    mark = _REPEAT.search(name)
    return name[: mark.end()] if mark and name[: mark.start()] in heads else ""


def listed_twice(items: Sequence[Item]) -> Iterator[Finding]:
    """Picture files that more than one record names, in a set where nearly every picture has one record."""
    records: dict[Image, dict[str, list[str]]] = {}
    for item in items:
        for image in item.images:
            if image.path is not None:
                records.setdefault(image, {}).setdefault(item.meta.get("record", item.id), []).append(item.id)
    several = [by_record for by_record in records.values() if len(by_record) > 1]
    if len(several) <= EXCEPTION * len(records):
        names = [name for by_record in several for group in by_record.values() for name in group]
        yield from found(
            "picture_listed_twice", names, "{n} pictures are listed by several records", count=len(several)
        )


def shown_twice(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Examples that show one picture at two places: a question about two pictures has one of them only."""
    twice = [item.id for item in items if len(set(seen := _prompted(item, sights))) < len(seen)]
    yield from found("repeated_picture", twice, "{n} examples show one picture several times")


def _prompted(item: Item, sights: Sights) -> list[Hashable]:
    """The pictures of the prompt."""
    return [sights[image].sha256 or image for message in item.prompt for image in message.images]


def repetitions(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Examples that ask and answer the same about the same pictures as one before; the first is not named."""
    seen: set[Hashable] = set()
    again: list[str] = []
    for item in items:
        told = tuple(plain(text) for text in answers(item))
        key = (asked(item, sights), told, item.expected if isinstance(item, Example) else "")
        if key in seen:
            again.append(item.id)
        seen.add(key)
    yield from found("duplicate_example", again, "{n} examples repeat pictures, texts and label of one before")


def contradictions(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """The same question about the same pictures, to be answered here and refused there, or of two categories."""
    same: dict[Hashable, list[Example]] = {}
    for item in items:
        if isinstance(item, Example):
            same.setdefault(asked(item, sights), []).append(item)
    labels = [g for g in same.values() if _differ(e.expected is Expected.ANSWER for e in g)]
    message = "{n} items are to be answered in one example and to be refused in another"
    yield from found("contradictory_labels", _names(labels), message, count=len(labels))
    categories = [g for g in same.values() if _differ((e.category, e.subcategory) for e in g if e.category)]
    yield from found(
        "contradictory_categories", _names(categories), "{n} items are of several categories", count=len(categories)
    )


def same_answers(items: Sequence[Item]) -> Iterator[Finding]:
    """Pairs whose chosen and rejected sides do not differ."""
    equal = [item.id for item in items if not isinstance(item, Example) and alike(item)]
    yield from found("same_answers", equal, "{n} pairs have the same answer as chosen and as rejected (but for blanks)")


def asked(item: Item, sights: Sights) -> Hashable:
    """What an example asks about which pictures, whatever the spelling of the text and the names of the files."""
    return (tuple((message.role, plain(message.text)) for message in item.prompt), shown(item, sights))


def shown(item: Item, sights: Sights) -> tuple[Hashable, ...]:
    """The pictures of an example by their bytes; a picture that could not be read by its file."""
    return tuple(sights[image].sha256 or image for image in item.images)


def _differ(values: Iterable[Hashable]) -> bool:
    return len(set(values)) > 1


def _names(groups: Iterable[Sequence[Item]]) -> list[str]:
    return [item.id for group in groups for item in group]
