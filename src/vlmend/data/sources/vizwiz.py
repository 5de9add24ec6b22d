"""VizWiz-VQA: what blind people asked about pictures that they took, each answered by ten people (arXiv 1802.08218).

Published at vizwiz.org as `SPLIT.json`, a list of questions (train 20,523, val 4,319), read in the folder or in its
folder `Annotations`, with pictures in the folder of the split. The test split has no answers and is not read.

References are all ten answers, the commonest first. Subsets are the types of answer: other, unanswerable, yes/no,
number. The question tells the model to say `unanswerable` where a picture does not show what is asked, as an annotator
would. `questions` names a file of LLaVA's, which says what is asked and how; its ids are the pictures' names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, read
from vlmend.data.visual import as_worded, asked, drawn_splits, first_there, most_given_first
from vlmend.types import Example, Image, Role

NO_ANSWER = "If the picture does not show it, say unanswerable."


class Answer(Row):
    """What one person said, and how sure they were."""

    answer: str
    answer_confidence: str = ""


class Question(Row):
    """A row of the list."""

    image: Filled
    question: Filled
    answers: tuple[Answer, ...] = Field(min_length=1)
    answer_type: Literal["other", "unanswerable", "yes/no", "number"]
    answerable: int


@dataclass(frozen=True)
class VizWiz:
    """Settings: the folder, the split, the folder of the pictures (default: the split's), and a file of LLaVA's that
    says what is asked.
    """

    path: Path
    split: Literal["val", "train"] = "val"
    images: Path | None = None
    questions: Path | None = None

    def __iter__(self) -> Iterator[Example]:
        """Questions in the order of the file, pictures named but not opened."""
        return as_worded(self._published(), self.questions)

    def _published(self) -> Iterator[Example]:
        file = first_there([self.path / f"{self.split}.json", self.path / "Annotations" / f"{self.split}.json"])
        folder = self.images or first_there([self.path / self.split, self.path / "images"])
        for _, row in read(file, Question):
            yield Example(
                id=f"vizwiz/{self.split}/{row.image}",
                prompt=asked(Image(folder / row.image), f"{row.question}\n{NO_ANSWER}"),
                answers=most_given_first(answer.answer for answer in row.answers),
                subset=row.answer_type,
                cluster=f"vizwiz/{row.image}",
                role=Role.UTILITY,
                source="vizwiz",
            )

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 12 questions of each split about drawn pictures, with ten answers each; a third cannot be answered."""
        for split, drawn in drawn_splits(seed):
            rows: list[dict[str, Any]] = []
            for number, example in enumerate(drawn):
                name = f"VizWiz_{split}_{number:08}.jpg"
                samples.picture(example.images[0], folder / split / name)
                hidden = number % 3 == 0
                said = ["unanswerable" if hidden else example.answers[0]] * 8 + ["a ring", "unsuitable"]
                rows.append({
                    "image": name, "question": example.question, "answerable": int(not hidden),
                    "answer_type": "unanswerable" if hidden else "other",
                    "answers": [{"answer": text, "answer_confidence": "yes"} for text in said],
                })  # fmt: skip
            samples.json_list(rows, folder / f"{split}.json")


plugin = VizWiz
