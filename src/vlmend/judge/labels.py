"""Labeled answers: JSON Lines with what people said of answers, to test judges against and to train them from.

A row has `refused`, `harmful` or `correct` (true or false; null where a judge should say nothing, as of an empty
answer), or `grade` (1 to 5, the harm it does as `rubric:graded` counts it; or null), or `label` (any word). It names an
answer of a run by `response_id`, or by `example_id` where each example has one answer; or it holds `question` and
`answer` itself. `id`, `category`, `answers` (references) and `cluster` are optional.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from vlmend.errors import DataError, UsageError, nearest
from vlmend.store import Run
from vlmend.types import Example, Finish, Message, Record, Response

SHIPPED = "shipped"
QUESTIONS = ("refused", "harmful", "correct")
GRADES = range(1, 6)
KEYS = (
    *QUESTIONS,
    "grade",
    "label",
    "id",
    "response_id",
    "example_id",
    "question",
    "answer",
    "answers",
    "category",
    "cluster",
)


@dataclass(frozen=True)
class Labeled:
    """One row. `says` has an entry for each question that was asked of whoever labeled it; so has `graded`, for one."""

    id: str
    says: Mapping[str, bool | None]
    label: str = ""
    response_id: str = ""
    example_id: str = ""
    question: str = ""
    answer: str | None = None
    answers: tuple[str, ...] = ()
    category: str = ""
    cluster: str = ""
    grade: int | None = None
    graded: bool = False

    @property
    def record(self) -> Record:
        """The answer as a record without verdicts; an empty one says nothing."""
        example = Example(
            self.id, (Message("user", (self.question,)),), self.answers, category=self.category, cluster=self.cluster
        )
        return Record(example, Response(self.response_id or self.id, self.id, self.answer or "", Finish.STOP))


def read(source: str) -> list[Labeled]:
    """The rows of a file, or those that come with this package for `shipped`. The first bad row raises DataError."""
    file = files("vlmend.metrics") / "labeled.jsonl" if source == SHIPPED else Path(source)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"labels {source} cannot be read: {error}; name a file of JSON lines, or shipped") from error
    rows = [_row(line, f"{source} line {n}") for n, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise DataError(f"labels {source} has no rows")
    return rows


def _row(line: str, place: str) -> Labeled:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: should be an object")
    if unknown := [key for key in row if key not in KEYS]:
        raise DataError(f"{place}: unknown key {unknown[0]!r}.{nearest(unknown[0], KEYS)} Known: {', '.join(KEYS)}")
    says = {key: row[key] for key in QUESTIONS if key in row}
    if bad := [key for key, value in says.items() if value not in (True, False, None)]:
        raise DataError(f"{place}: {bad[0]!r} should be true, false or null, is {says[bad[0]]!r}")
    grade = row.get("grade")
    if grade is not None and (isinstance(grade, bool) or grade not in GRADES):
        raise DataError(f"{place}: 'grade' should be a whole number from {GRADES[0]} to {GRADES[-1]}, is {grade!r}")
    if not says and not {"label", "grade"} & set(row):
        raise DataError(f"{place}: has none of {', '.join((*QUESTIONS, 'grade', 'label'))}")
    if "answer" not in row and not (row.get("response_id") or row.get("example_id")):
        raise DataError(f"{place}: has no 'answer', and neither 'response_id' nor 'example_id' says which is meant")
    texts = {key: row[key] for key in KEYS[len(QUESTIONS) + 1 :] if key in row and key != "answers"}
    if bad := [key for key, value in texts.items() if not isinstance(value, str)]:
        raise DataError(f"{place}: {bad[0]!r} should be a text, is {texts[bad[0]]!r}")
    texts.setdefault("id", texts.get("response_id") or texts.get("example_id") or place)
    asked = tuple(row.get("answers", ()))
    return Labeled(
        says=says, answers=asked, **texts, grade=None if grade is None else int(grade), graded="grade" in row
    )


def joined(rows: Sequence[Labeled], records: Sequence[Record]) -> list[tuple[Labeled, Record]]:
    """Each row with the record it is about. Raises DataError where none is, or where more than one could be."""
    by_response = {r.response.id: r for r in records}
    by_example: dict[str, list[Record]] = {}
    for record in records:
        by_example.setdefault(record.example.id, []).append(record)
    return [(row, _found(row, by_response, by_example)) for row in rows]


def _found(row: Labeled, responses: Mapping[str, Record], examples: Mapping[str, Sequence[Record]]) -> Record:
    if row.response_id:
        if row.response_id not in responses:
            raise DataError(f"label {row.id}: the run has no response {row.response_id!r}; it has {len(responses):,}")
        return responses[row.response_id]
    name = row.example_id or row.id
    found = examples.get(name, ())
    if not found:
        raise DataError(f"label {row.id}: the run has no example {name!r}.{nearest(name, examples)}")
    if len(found) > 1:
        raise DataError(f"label {row.id}: example {name!r} has {len(found)} answers; name one by response_id")
    return found[0]


def filled(rows: Sequence[Labeled], run: Path | None) -> list[Labeled]:
    """The rows with question, answer and cluster from the run they are about, where they do not hold them."""
    if run is not None:
        return [
            replace(row, question=r.example.question, answer=r.response.text, cluster=row.cluster or r.example.cluster)
            for row, r in joined(rows, Run.open(run).records())
        ]
    if lacking := [row.id for row in rows if row.answer is None]:
        raise UsageError(f"label {lacking[0]} has no answer; name the run the labels are about with --run")
    return list(rows)
