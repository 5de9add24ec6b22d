"""MMBench: questions with up to four choices, asked once for every rotation of the choices (arXiv 2307.06281).

Published by its authors (open-compass) as tables with the pictures inside (`mmbench_dev_20230712.tsv`,
`MMBench_DEV_EN.tsv`, `MMBench_DEV_EN_V11.tsv`, …): index, question, hint, A to D, answer, category, l2-category,
source, comment, split, and image, which is base64 or the index of the row that holds it. Tables that list the rotations
themselves, as rows with a million more in their index for each, are asked as they are; of others, all rotations are
made here, or, with `rotations=false`, none. The answers of the test split are not published: it is not read.

Rotations of one question share `shot_of`; their subset is `as_listed` for the first, `rotated` for the others. The
question is the hint, the question and the choices, then a request for the letter.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

from pydantic import Field

from vlmend.data import samples
from vlmend.data.formats import rows_of
from vlmend.data.rows import Filled, Row, check
from vlmend.data.turns import picture
from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Role

ASK = "Reply with the letter of the right choice."
ROUND = 1_000_000  # what a rotation adds to the index


class Question(Row):
    """A row of the table; choices that a question does not have are left empty."""

    index: int
    question: Filled
    hint: str = ""
    A: Filled
    B: Filled
    C: str = ""
    D: str = ""
    answer: str = Field(pattern=r"^[A-D]$")
    category: str = ""
    l2_category: str = Field("", alias="l2-category")
    image: Any
    source: str = ""
    comment: str = ""
    split: str = ""

    @property
    def choices(self) -> tuple[str, ...]:
        """Those that are there."""
        return tuple(filter(None, (self.A, self.B, self.C, self.D)))


@dataclass(frozen=True)
class MmBench:
    """Settings: the table, and whether every rotation of a question's choices is asked."""

    path: Path
    rotations: bool = True

    def __iter__(self) -> Iterator[Example]:
        """Questions as listed, each with its rotations."""
        rows: list[tuple[Question, Image]] = []
        for place, value, folder in rows_of(self.path):
            row = check(Question, value, place)
            if LETTERS.index(row.answer) >= len(row.choices):
                raise DataError(f"{place}: 'answer' is {row.answer}, of {len(row.choices)} choices")
            try:
                rows.append((row, picture(row.image, folder)))
            except DataError as error:
                raise DataError(f"{place}: {error}") from error
        listed = any(row.index >= ROUND for row, _ in rows)
        for row, shown in rows:
            if listed and (self.rotations or row.index < ROUND):
                yield _example(row, shown, 0)
            elif not listed:
                for turn in range(len(row.choices) if self.rotations else 1):
                    yield _example(row, shown, turn)

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write a table of eight questions about drawn pictures, two of which share one."""
        rows: list[dict[str, Any]] = []
        for number, example in enumerate(samples.requests("perception", 8, seed=seed), start=1):
            stem, *lettered = example.question.split("\n")
            choices = dict(zip("ABCD", (line.partition(". ")[2] for line in lettered), strict=False))
            shown = "1" if number == 2 else base64.b64encode(example.images[0].read()).decode()
            rows.append({
                "index": number, "question": stem, "hint": "", **dict.fromkeys("ABCD", ""), **choices,
                "answer": example.answers[-1], "category": example.category, "image": shown, "source": "world",
                "l2-category": "perception", "comment": "", "split": "dev",
            })  # fmt: skip
        samples.table(rows, folder / "MMBench_DEV_EN.tsv")


plugin = MmBench


def _example(row: Question, shown: Image, turn: int) -> Example:
    """The row, its choices turned by so many places: the choice that was at place `turn` is A."""
    choices = row.choices[turn:] + row.choices[:turn]
    letter = LETTERS[(LETTERS.index(row.answer) - turn) % len(choices)]
    choice = choices[LETTERS.index(letter)]
    lettered = [f"{a}. {text}" for a, text in zip(LETTERS, choices, strict=False)]
    index, turns = row.index % ROUND, turn or row.index // ROUND
    return Example(
        id=f"mmbench/{index}/{turns}",
        prompt=(Message("user", (shown, "\n".join(filter(None, (row.hint, row.question, *lettered, ASK))))),),
        answers=(letter, f"{letter}. {choice}", choice),
        subset="rotated" if turns else "as_listed",
        category=row.l2_category,
        subcategory=row.category,
        cluster=shown.path.as_posix() if shown.path else shown.sha256,
        role=Role.UTILITY,
        source="mmbench",
        meta={
            "shot_of": f"mmbench/{index}",
            "options": "\n".join(lettered),
            "letter": letter,
            "known_as": str(index + turns * ROUND),
        },
    )
