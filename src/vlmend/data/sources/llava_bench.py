"""LLaVA-Bench (in the wild): 60 open questions about 24 pictures, each with an answer of GPT-4 (arXiv 2304.08485).

Two layouts are read. The authors' (liuhaotian/llava-bench-in-the-wild on the Hugging Face hub): a folder with
`questions.jsonl`, `answers_gpt4.jsonl`, maybe `context.jsonl` (what a picture shows, written by people), and `images`.
VLMEvalKit's: `LLaVABench.tsv` with index, question, category, caption, gpt4_ans, and the picture as base64 or a path.

Answers are joined by id. Not checked, for want of files: what else rows say; in answers and tables it is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from vlmend.data import samples
from vlmend.data.formats import rows_of
from vlmend.data.rows import Filled, Row, check, read
from vlmend.data.turns import picture
from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Role

TABLE = "LLaVABench.tsv"
QUESTIONS = "questions.jsonl"
ANSWERS = "answers_gpt4.jsonl"
SUBSETS = ("conv", "detail", "complex")
LONG = {"llava_bench_conv": "conv", "llava_bench_detail": "detail", "llava_bench_complex": "complex"}


class Question(Row):
    """A line of `questions.jsonl`."""

    question_id: int
    image: Filled
    text: Filled
    category: Filled


class Answer(Row):
    """A line of `answers_gpt4.jsonl`; what else it says of itself is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    question_id: int
    text: Filled


class Asked(Row):
    """A row of the table; further columns are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    index: Any
    question: Filled
    category: Filled
    gpt4_ans: Filled
    image: Any = None
    image_path: Any = None


@dataclass(frozen=True)
class LlavaBench:
    """`llava_bench:PATH`: the table, or a folder that has it or the authors' files. Subsets: conv, detail, complex."""

    path: Path

    def __iter__(self) -> Iterator[Example]:
        """Questions as listed; pictures in files are named but not opened."""
        table = self.path / TABLE if self.path.is_dir() else self.path
        if table.is_file():
            yield from self._table(table)
        elif (self.path / QUESTIONS).is_file():
            yield from self._files()
        else:
            raise DataError(f"{self.path} is no table, and has neither {TABLE} nor {QUESTIONS}")

    def _table(self, table: Path) -> Iterator[Example]:
        for place, value, folder in rows_of(table):
            row = check(Asked, value, place)
            try:
                shown = picture(row.image or row.image_path, folder)
            except DataError as error:
                raise DataError(f"{place}: {error}") from error
            yield _example(str(row.index), shown, row.question, row.category, row.gpt4_ans)

    def _files(self) -> Iterator[Example]:
        answers = {answer.question_id: answer.text for _, answer in read(self.path / ANSWERS, Answer)}
        for number, asked in read(self.path / QUESTIONS, Question):
            if asked.question_id not in answers:
                raise DataError(
                    f"{self.path / QUESTIONS} line {number + 1}: {ANSWERS} has no answer to {asked.question_id}"
                )
            shown = Image(self.path / "images" / asked.image)
            yield _example(str(asked.question_id), shown, asked.text, asked.category, answers[asked.question_id])

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write six questions about drawn pictures, two of each kind, in the authors' layout."""
        asked = [e for e in samples.requests("utility", 60, seed=seed) if len(e.images) == 1][:6]
        names = {name: long for long, name in LONG.items()}
        questions = [
            {"question_id": i, "image": f"{i:03}.jpg", "text": e.question, "category": names[SUBSETS[i % 3]]}
            for i, e in enumerate(asked)
        ]
        samples.json_lines(questions, folder / QUESTIONS)
        samples.json_lines([{"question_id": i, "text": e.answers[0]} for i, e in enumerate(asked)], folder / ANSWERS)
        for row, example in zip(questions, asked, strict=True):
            samples.picture(example.images[0], folder / "images" / str(row["image"]))


plugin = LlavaBench


def _example(number: str, shown: Image, question: str, category: str, answer: str) -> Example:
    cluster = shown.path.as_posix() if shown.path else shown.sha256
    return Example(
        id=f"llava_bench/{number}",
        prompt=(Message("user", (shown, question)),),
        answers=(answer,),
        subset=LONG.get(category, category),
        cluster=cluster,
        role=Role.UTILITY,
        source="llava_bench",
    )
