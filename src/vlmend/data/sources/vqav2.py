"""VQA v2: open questions about pictures of COCO, each answered by ten people (arXiv 1612.00837).

Published at visualqa.org as two files for each split, `v2_OpenEnded_mscoco_SPLIT2014_questions.json` and
`v2_mscoco_SPLIT2014_annotations.json`: 443,757 questions of train, 214,354 of val. They are read beside each other or
in the folders `Questions` and `Annotations`; pictures are COCO's, in `SPLIT2014`. The answers of the test splits are
not published: those are answered for a server and not scored here.

References are all ten answers, the commonest first. Subsets: yes/no, number, other. `questions` names a file of
LLaVA's, which says what is asked and how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, check, listed
from vlmend.data.visual import as_worded, asked, drawn_splits, first_there, most_given_first
from vlmend.errors import DataError
from vlmend.types import Example, Image, Role

COUNTS = 10  # annotators of a question


class About(Row):
    """What either file says of itself."""

    info: Any = None
    license: Any = None
    task_type: str = ""
    data_type: str = ""
    data_subtype: str = ""


class Question(Row):
    """A row of the questions."""

    question_id: int
    image_id: int
    question: Filled


class Answer(Row):
    """What one person said."""

    answer: str
    answer_confidence: str = ""
    answer_id: int


class Annotation(Row):
    """A row of the annotations."""

    question_id: int
    image_id: int
    question_type: str
    answer_type: Literal["yes/no", "number", "other"]
    multiple_choice_answer: str
    answers: tuple[Answer, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Vqav2:
    """Settings: the folder, the split, the folder of the pictures (default: `SPLIT2014` beside the files), and a file
    of LLaVA's that says what is asked.
    """

    path: Path
    split: Literal["val", "train"] = "val"
    images: Path | None = None
    questions: Path | None = None

    def __iter__(self) -> Iterator[Example]:
        """Questions in the order of the file, pictures named but not opened."""
        return as_worded(self._published(), self.questions)

    def _published(self) -> Iterator[Example]:
        file = self._file("Questions", f"v2_OpenEnded_mscoco_{self.split}2014_questions.json")
        answers = self._file("Annotations", f"v2_mscoco_{self.split}2014_annotations.json")
        folder = self.images or first_there([self.path / f"{self.split}2014", self.path / "images"])
        about, rows = listed(answers, "annotations")
        check(About, about, answers)
        given: dict[int, Annotation] = {}
        for place, value in rows:
            row = check(Annotation, value, place)
            given[row.question_id] = row
        about, rows = listed(file, "questions")
        check(About, about, file)
        for place, value in rows:
            row = check(Question, value, place)
            if row.question_id not in given:
                raise DataError(f"{place}: {answers.name} has no answers to question {row.question_id}")
            yield self._example(row, given[row.question_id], folder)

    def _example(self, row: Question, given: Annotation, folder: Path) -> Example:
        picture = Image(folder / f"COCO_{self.split}2014_{row.image_id:012}.jpg")
        return Example(
            id=f"vqav2/{self.split}/{row.question_id}",
            prompt=asked(picture, row.question),
            answers=most_given_first(answer.answer for answer in given.answers),
            subset=given.answer_type,
            category=given.question_type,
            cluster=f"vqav2/{row.image_id}",
            role=Role.UTILITY,
            source="vqav2",
        )

    def _file(self, folder: str, name: str) -> Path:
        found = first_there([self.path / name, self.path / folder / name])
        if not found.exists():
            raise DataError(f"VQA folder {self.path} has no {name}, nor has its folder {folder}")
        return found

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 12 questions of each split about drawn pictures, with ten answers each, two of which differ."""
        for split, drawn in drawn_splits(seed):
            questions: list[dict[str, Any]] = []
            given: list[dict[str, Any]] = []
            for number, example in enumerate(drawn, start=1):
                picture = f"COCO_{split}2014_{number:012}.jpg"
                samples.picture(example.images[0], folder / f"{split}2014" / picture)
                key = {"image_id": number, "question_id": 1000 * number}
                said = [example.answers[0]] * (COUNTS - 2) + ["a ring", "nothing"]
                questions.append({**key, "question": example.question})
                given.append({
                    **key, "question_type": "what is", "answer_type": ("yes/no", "number", "other")[number % 3],
                    "multiple_choice_answer": example.answers[0],
                    "answers": [
                        {"answer": text, "answer_confidence": "yes", "answer_id": place}
                        for place, text in enumerate(said, start=1)
                    ],
                })  # fmt: skip
            kind = {"data_type": "mscoco", "data_subtype": f"{split}2014"}
            asking = {**kind, "task_type": "Open-Ended", "questions": questions}
            samples.json_object(asking, folder / f"v2_OpenEnded_mscoco_{split}2014_questions.json")
            samples.json_object({**kind, "annotations": given}, folder / f"v2_mscoco_{split}2014_annotations.json")


plugin = Vqav2
