"""GQA: questions made from scene graphs, each with one short answer (arXiv 1902.09506).

Published at cs.stanford.edu/people/dorarad/gqa as `SPLIT_questions.json`, one object of question by id, such as
`testdev_balanced_questions.json` (12,578 questions about 398 pictures), with pictures in `images`. Splits whose answers
are not published (test, challenge) are refused. Files that are cut into several, as those of train, are read one by
one: `train_all_questions_0`.

Subsets are what the question is by structure: verify and logical are answered by yes or no, query, choose and compare
by a word. `questions` names a file of LLaVA's (`llava_gqa_testdev_balanced.jsonl`), which says what is asked and how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, check, mapping
from vlmend.data.visual import as_worded, asked
from vlmend.errors import DataError, nearest
from vlmend.types import Example, Image, Role

ENDING = "_questions"


class Types(Row):
    """Of which kind a question is."""

    structural: str = ""
    semantic: str = ""
    detailed: str = ""


class Question(Row):
    """An entry of the file; what is not used may be anything."""

    question: Filled
    imageId: Filled  # the file's name for it
    answer: Filled
    fullAnswer: str = ""
    isBalanced: bool = True
    types: Types = Types()
    groups: Any = None
    entailed: Any = None
    equivalent: Any = None
    semantic: Any = None
    semanticStr: Any = None
    annotations: Any = None


@dataclass(frozen=True)
class Gqa:
    """Settings: the folder, the split, the folder of the pictures (default: `images` beside the file), and a file of
    LLaVA's that says what is asked.
    """

    path: Path
    split: str = "testdev_balanced"
    images: Path | None = None
    questions: Path | None = None

    def __iter__(self) -> Iterator[Example]:
        """Questions in the order of the file, pictures named but not opened."""
        return as_worded(self._published(), self.questions)

    def _published(self) -> Iterator[Example]:
        file = self._file()
        folder = self.images or self.path / "images"
        for name, value in mapping(file).items():
            place = f"{file} question {name!r}"
            row = check(Question, value, place)
            yield Example(
                id=f"gqa/{self.split}/{name}",
                prompt=asked(Image(folder / f"{row.imageId}.jpg"), row.question),
                answers=(row.answer,),
                subset=row.types.structural,
                category=row.types.semantic,
                subcategory=row.types.detailed,
                cluster=f"gqa/{row.imageId}",
                role=Role.UTILITY,
                source="gqa",
            )

    def _file(self) -> Path:
        """The split's file. Raises DataError saying which there are."""
        name = self.split if ENDING in self.split else f"{self.split}{ENDING}"
        found = {file.stem: file for file in sorted(self.path.glob(f"*{ENDING}*.json"))}
        if name not in found:
            raise DataError(
                f"GQA folder {self.path} has no {name}.json.{nearest(name, found)} Files there: "
                f"{', '.join(found) or 'none'}"
            )
        return found[name]

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 12 questions about drawn pictures, half of them to be answered with yes or no."""
        drawn = [e for e in samples.requests("alignment", 200, seed=seed) if len(e.images) == 1][:12]
        rows: dict[str, Any] = {}
        for number, example in enumerate(drawn):
            name, answer = f"n{number:06}", example.answers[-1].lower()
            samples.picture(example.images[0], folder / "images" / f"{name}.jpg")
            kind = "verify" if answer in ("yes", "no") else "query"
            rows[f"20{number:07}"] = {
                "question": example.question, "imageId": name, "answer": answer, "fullAnswer": example.answers[0],
                "isBalanced": True, "types": {"structural": kind, "semantic": "obj", "detailed": "exist"},
            }  # fmt: skip
        samples.json_object(rows, folder / f"testdev_balanced{ENDING}.json")


plugin = Gqa
