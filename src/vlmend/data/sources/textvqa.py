"""TextVQA: questions about what is written in a picture, each answered by ten people (arXiv 1904.08920).

Published at textvqa.org as `TextVQA_0.5.1_SPLIT.json`, one object whose list `data` holds the questions (train 34,602,
val 5,000), with pictures of OpenImages in `train_images`. The test split has no answers and is not read.

References are all ten answers, the commonest first. `questions` names a file of LLaVA's
(`llava_textvqa_val_v051_ocr.jsonl`), whose ids are those of pictures and whose texts list what an OCR read.
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
from vlmend.types import Example, Image, Role


class About(Row):
    """What the file says of itself."""

    dataset_type: str = ""
    dataset_name: str = ""
    dataset_version: str = ""


class Question(Row):
    """A row of `data`."""

    question_id: int
    image_id: Filled
    question: Filled
    answers: tuple[str, ...] = Field(min_length=1)
    image_classes: Any = None
    image_width: Any = None
    image_height: Any = None
    flickr_original_url: Any = None
    flickr_300k_url: Any = None
    question_tokens: Any = None
    set_name: str = ""


@dataclass(frozen=True)
class TextVqa:
    """Settings: the folder, the split, the folder of the pictures (default: `train_images` beside the file), and a file
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
        file = self.path / f"TextVQA_0.5.1_{self.split}.json"
        folder = self.images or first_there([self.path / "train_images", self.path / "images"])
        about, rows = listed(file, "data")
        check(About, about, file)
        for place, value in rows:
            row = check(Question, value, place)
            yield Example(
                id=f"textvqa/{self.split}/{row.question_id}",
                prompt=asked(Image(folder / f"{row.image_id}.jpg"), row.question),
                answers=most_given_first(row.answers),
                cluster=f"textvqa/{row.image_id}",
                role=Role.UTILITY,
                source="textvqa",
                meta={"known_as": row.image_id},
            )

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 12 questions of each split about drawn pictures, with ten answers each, two of which differ."""
        for split, drawn in drawn_splits(seed):
            rows: list[dict[str, Any]] = []
            for number, example in enumerate(drawn, start=1):
                name = f"{split}{number:04}"
                samples.picture(example.images[0], folder / "train_images" / f"{name}.jpg")
                answers = [example.answers[0]] * 8 + ["a ring", "nothing"]
                rows.append({"question_id": number, "image_id": name, "question": example.question, "answers": answers})
            about = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
            samples.json_object({**about, "data": rows}, folder / f"TextVQA_0.5.1_{split}.json")


plugin = TextVqa
