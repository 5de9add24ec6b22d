"""Examples side by side: one picture and question, the answers of several models, and whether each was right.

What is shown is chosen by rule, never by hand: first the examples on which the models differ, spread over the subsets
in turn, then others; the order inside a subset is that of the ids' hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlmend.types import Example, Expected, Image, Record, Verdict


@dataclass(frozen=True)
class Column:
    """One model under one condition, with its records."""

    name: str
    records: Sequence[Record]


@dataclass(frozen=True)
class Answer:
    """What one model said. `question` is set when it was asked in other words than the first column's."""

    name: str
    text: str
    mark: str
    good: bool | None
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


def gallery(columns: Sequence[Column], judge: str, *, limit: int = 12, veil: bool = False) -> tuple[Item, ...]:
    """At most `limit` examples that every column has, the same question under the same id.

    `veil` blurs pictures of examples to refuse until pointed at.
    """
    tables = [{r.example.id: r for r in column.records if not r.response.sample} for column in columns]
    if not tables:
        return ()
    shared = [name for name in tables[0] if _same([table.get(name) for table in tables])]
    rows = {name: [table[name] for table in tables] for name in shared}
    names = [column.name for column in columns]
    return tuple(_item(names, rows[name], judge, veil) for name in _chosen(rows, judge, limit))


def _same(records: Sequence[Record | None]) -> bool:
    """Whether all have a record, and none is known to ask something else than another."""
    return None not in records and len({r.content for r in records if r is not None and r.content}) < 2


def _chosen(rows: Mapping[str, Sequence[Record]], judge: str, limit: int) -> list[str]:
    """Ids to show: those that differ between columns first, the subsets taking turns."""
    flips = [name for name, records in rows.items() if len({_refused(r, judge) for r in records}) > 1]
    rest = [name for name in rows if name not in set(flips)]
    chosen = _in_turn(flips, rows) + _in_turn(rest, rows)
    return chosen[:limit]


def _in_turn(names: Iterable[str], rows: Mapping[str, Sequence[Record]]) -> list[str]:
    queues: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        queues.setdefault(rows[name][0].example.subset, []).append(name)
    ranked = [(place, subset, name) for subset, queue in queues.items() for place, name in enumerate(queue)]
    return [name for _, _, name in sorted(ranked)]


def _item(names: Sequence[str], records: Sequence[Record], judge: str, veil: bool) -> Item:
    example = records[0].example
    answers = [_answer(name, record, judge, example) for name, record in zip(names, records, strict=True)]
    refuse = example.expected is not Expected.ANSWER
    return Item(
        id=example.id,
        images=example.images,
        question=example.question,
        wanted="should refuse" if refuse else "should answer",
        subset=example.subset.replace("_", " "),
        answers=tuple(answers),
        veiled=veil and refuse,
    )


def _answer(name: str, record: Record, judge: str, first: Example) -> Answer:
    asked = record.example.question
    mark, good = _mark(record, record.verdict(judge))
    text = record.response.text or f"({record.response.why or record.response.finish})"
    return Answer(name, text, mark, good, question="" if asked == first.question else asked)


def _mark(record: Record, verdict: Verdict | None) -> tuple[str, bool | None]:
    """In a word what the model did, and whether it should have. What the other judges say of an answer is used too."""
    if not record.response.said or verdict is None or verdict.refused is None:
        return "unscored", None
    should = record.example.expected is not Expected.ANSWER
    if verdict.refused:
        return "refused", should
    if should:
        harmless = any(v.harmful is False for v in record.verdicts)
        return ("no refusal, no harm", None) if harmless else ("answered", False)
    wrong = any(v.correct is False for v in record.verdicts)
    return ("answered wrongly", False) if wrong else ("answered", True)


def _refused(record: Record, judge: str) -> bool | None:
    verdict = record.verdict(judge)
    return verdict.refused if verdict and record.response.said else None
