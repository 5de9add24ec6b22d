"""Examples side by side: one picture and question, the answers of several models, and what became of each.

What is shown is chosen by rule, never by hand: first the examples whose outcomes differ, spread over the subsets in
turn, then others; the order inside a subset is that of the ids' hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlmend.metrics.outcomes import NO_ANSWER, RIGHT, WRONG, by_refusal
from vlmend.types import Example, Expected, Image, Outcome, Record, Role, Tone

WANTED = {
    Expected.ANSWER: "should answer",
    Expected.REFUSE: "should refuse",
    Expected.REASON: "should name the danger",
}
UNSAFE_SETS = ("unsafe_concepts",)  # whose pictures with a category are unsafe, though questions about them are not
MIXED = ("question", "picture")  # cells of crossed pairs of which nobody knows what is right
LONGEST = 60  # letters of a reference answer that are shown


@dataclass(frozen=True)
class Column:
    """One model under one condition, with its records, and what became of each by the suite they were made with."""

    name: str
    records: Sequence[Record]
    became: Callable[[Record], Outcome] = by_refusal


@dataclass(frozen=True)
class Answer:
    """What one model said, and what became of the request in a word.

    `question` is set when it was asked in other words than the first column's.
    """

    name: str
    text: str
    mark: str
    tone: Tone = "neutral"
    question: str = ""


@dataclass(frozen=True)
class Item:
    """One example with its answers."""

    id: str
    images: tuple[Image, ...]
    question: str
    wanted: str
    subset: str
    answers: tuple[Answer, ...]
    veiled: bool = False


def gallery(columns: Sequence[Column], *, limit: int = 12, veil: bool = False) -> tuple[Item, ...]:
    """At most `limit` examples that all columns have, the same question under one id; of several answers the first.

    Where a column has variants of examples instead of the examples, the first variant stands for them. `veil` blurs
    unsafe pictures until pointed at.
    """
    rows = _rows(columns, lambda example: example.id) or _rows(columns, lambda example: example.origin)
    outcomes = {
        name: [column.became(record) for column, record in zip(columns, records, strict=True)]
        for name, records in rows.items()
    }
    hidden = delicate(r.example for column in columns for r in column.records) if veil else None
    names = [column.name for column in columns]
    return tuple(_item(names, rows[name], outcomes[name], hidden) for name in _chosen(rows, outcomes, limit))


def delicate(examples: Iterable[Example]) -> frozenset[str]:
    """Pictures that are unsafe whatever is asked about them: those to be forgotten, and those of unsafe sets."""
    return frozenset(
        image.recorded or image.name
        for example in examples
        if example.role is Role.FORGET or (example.source in UNSAFE_SETS and example.category)
        for image in example.images
    )


def veiled(example: Example, hidden: Collection[str]) -> bool:
    """Whether to hide its pictures: it is not simply to be answered, or one of them is among the hidden ones."""
    shows_hidden = bool(hidden) and any((image.recorded or image.name) in hidden for image in example.images)
    return example.expected is not Expected.ANSWER or shows_hidden


def _rows(columns: Sequence[Column], key: Callable[[Example], str]) -> dict[str, list[Record]]:
    """The records of each example that all columns have, and that is not known to ask something else in one of them."""
    tables: list[dict[str, Record]] = []
    for column in columns:
        table: dict[str, Record] = {}
        for record in column.records:
            if not record.response.sample:
                table.setdefault(key(record.example), record)
        tables.append(table)
    shared = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
    rows = {name: [table[name] for table in tables] for name in shared}
    return {name: records for name, records in rows.items() if len({r.content for r in records if r.content}) < 2}


def _chosen(rows: Mapping[str, Sequence[Record]], outcomes: Mapping[str, Sequence[Outcome]], limit: int) -> list[str]:
    """Ids to show: those whose outcomes differ first, the subsets taking turns."""
    differ = [name for name in rows if len(set(outcomes[name])) > 1]
    rest = [name for name in rows if len(set(outcomes[name])) == 1]
    return (_in_turn(differ, rows) + _in_turn(rest, rows))[:limit]


def _in_turn(names: Iterable[str], rows: Mapping[str, Sequence[Record]]) -> list[str]:
    queues: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        queues.setdefault(rows[name][0].example.subset, []).append(name)
    ranked = [(place, subset, name) for subset, queue in queues.items() for place, name in enumerate(queue)]
    return [name for _, _, name in sorted(ranked)]


def _item(
    names: Sequence[str],
    records: Sequence[Record],
    outcomes: Sequence[Outcome],
    hidden: Collection[str] | None,
) -> Item:
    example = records[0].example
    return Item(
        id=example.id,
        images=example.images,
        question=example.question,
        wanted=_wanted(example, outcomes),
        subset=example.subset.replace("_", " "),
        answers=tuple(_answer(*column, example) for column in zip(names, records, outcomes, strict=True)),
        veiled=hidden is not None and veiled(example, hidden),
    )


def _wanted(example: Example, outcomes: Iterable[Outcome]) -> str:
    """What a model should have done; the right answer, where that is all that counts; nothing where nobody knows."""
    if example.answers and any(outcome in (RIGHT, WRONG, NO_ANSWER) for outcome in outcomes):
        answer = example.answers[0]
        return f"right answer: {answer if len(answer) <= LONGEST else answer[:LONGEST].rstrip() + '…'}"
    if "pair" in example.meta and example.subset in MIXED:
        return ""
    if example.role is Role.FORGET and example.expected is Expected.ANSWER:
        return "to be forgotten"
    return WANTED[example.expected]


def _answer(name: str, record: Record, outcome: Outcome, first: Example) -> Answer:
    asked = record.example.question
    response = record.response
    text = response.text if response.text.strip() else "(said nothing)" if response.silent else ""
    text = text or f"({response.why or response.finish})"
    question = "" if asked == first.question else asked
    return Answer(name, text, outcome.name, outcome.tone, question)
