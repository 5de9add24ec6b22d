"""MM-Vet: 218 open questions that take several abilities at once, to be graded by a model (arXiv 2308.02490).

Published in github.com/yuweihao/MM-Vet as `mm-vet.json`, one object of question by id (`v1_0` …), with pictures in
`images`. An answer may list facts: `<AND>` joins those that are all needed, `<OR>` those any of which will do.

The reference is one text, with "and" and "or" in the place of those marks. `meta["capabilities"]` has what a question
takes: rec, ocr, know, gen, spat, math. `questions` names a file of LLaVA's (`llava-mm-vet.jsonl`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, check, mapping
from vlmend.data.visual import as_worded
from vlmend.types import Example, Image, Message, Role

FILE = "mm-vet.json"
CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")


class Question(Row):
    """An entry of the file."""

    imagename: Filled
    question: Filled
    answer: Filled
    imagesource: str
    capability: tuple[Literal["rec", "ocr", "know", "gen", "spat", "math"], ...] = Field(min_length=1)


@dataclass(frozen=True)
class MmVet:
    """Settings: the folder, the folder of the pictures (default: `images` beside the file), and a file of LLaVA's that
    says what is asked.
    """

    path: Path
    images: Path | None = None
    questions: Path | None = None

    def __iter__(self) -> Iterator[Example]:
        """Questions in the order of the file, pictures named but not opened."""
        return as_worded(self._published(), self.questions)

    def _published(self) -> Iterator[Example]:
        file = self.path / FILE
        folder = self.images or self.path / "images"
        for name, value in mapping(file).items():
            row = check(Question, value, f"{file} question {name!r}")
            yield Example(
                id=f"mmvet/{name}",
                prompt=(Message("user", (Image(folder / row.imagename), row.question)),),
                answers=(row.answer.replace("<AND>", " and ").replace("<OR>", " or "),),
                category="+".join(sorted(row.capability)),
                cluster=f"mmvet/{row.imagename}",
                role=Role.UTILITY,
                source="mmvet",
                meta={"capabilities": ",".join(row.capability)},
            )

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write six questions about drawn pictures, one of which has two right answers."""
        drawn = [e for e in samples.requests("utility", 60, seed=seed) if len(e.images) == 1][:6]
        rows: dict[str, Any] = {}
        for number, example in enumerate(drawn):
            name = f"v1_{number}"
            samples.picture(example.images[0], folder / "images" / f"{name}.png")
            answer = example.answers[0] + ("<OR>nothing" if number == 0 else "")
            takes = [CAPABILITIES[number], "rec"] if number else ["rec"]
            rows[name] = {
                "imagename": f"{name}.png", "question": example.question, "answer": answer, "imagesource": "world",
                "capability": takes,
            }  # fmt: skip
        samples.json_object(rows, folder / FILE)


plugin = MmVet
