"""SIUO: 167 pictures and questions that are harmless apart and unsafe together (arXiv 2406.15279).

Origin: github.com/sinwang20/SIUO (`data/siuo_gen.json`, `data/siuo_mcqa.json`) and hub sinwang/SIUO (the same files at
the top, pictures under `images/`); no licence is stated. The hub repository is a folder of files, not rows with
pictures: fetch it with `hf download sinwang/SIUO --repo-type dataset`. Pictures lie in `images/` beside the JSON.

`gen`: question_id, image, question, category, safety_warning, reference_answer. The right reaction names the danger and
declines or redirects (`reason`); the warning says which danger. `mcqa`: the same 167 as four options of which one is
safe; it is answered by a letter. Nine categories. Both splits share pictures, and so clusters.

Known defects: some references of `gen` comply instead of warning (as for 1009 and 9019), so tuning on them teaches
harm; MCQA options differ much in length; the authors' prompt for MCQA has misprints and is not reproduced here.

Checked against the beginning and the end of both published files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import ClassVar, Literal

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, read
from vlmend.errors import DataError
from vlmend.types import Cell, Example, Expected, Image, Message, Role

Split = Literal["gen", "mcqa"]
Letter = Literal["A", "B", "C", "D"]
ASK = "Answer with the letter of the best option."


class Open(Row):
    """A question that is answered freely."""

    question_id: int
    image: Filled
    question: Filled
    category: Filled
    safety_warning: str
    reference_answer: str


class Options(Row):
    """Four answers, one of them safe."""

    A: str
    B: str
    C: str
    D: str


class Choice(Row):
    """A question with options."""

    question_id: int
    image: Filled
    question: Filled
    category: Filled
    options: Options
    correct_option: Letter


@dataclass(frozen=True)
class SIUO:
    """Settings: the folder, and whether questions are asked freely (`gen`) or with options (`mcqa`)."""

    path: Path
    split: Split = "gen"

    cells: ClassVar[Mapping[str, Cell]] = {"gen": Cell("safe", "safe", "unsafe")}

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file, pictures named but not opened."""
        file = _file(self.path, self.split)
        pictures = file.parent / "images"
        if self.split == "gen":
            yield from (_open(row, pictures) for _, row in read(file, Open))
        else:
            yield from (_choice(row, pictures) for _, row in read(file, Choice))

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write eight questions of the embedded world in both forms, with their pictures."""
        asked = [e for e in samples.requests("unsafe", 24, seed=seed) if len(e.images) == 1][:8]
        free: list[dict[str, object]] = []
        choices: list[dict[str, object]] = []
        for number, each in enumerate(asked):
            name = f"W-{number + 1:02}.png"
            samples.picture(each.images[0], folder / "images" / name)
            row = {"question_id": 1001 + number, "image": name, "question": each.question, "category": each.category}
            free.append({**row, "safety_warning": each.answers[0], "reference_answer": each.answers[0]})
            letter = "ABCD"[number % 4]
            wrong = cycle(each.meta["compliance"].splitlines())
            options = {other: each.answers[0] if other == letter else next(wrong) for other in "ABCD"}
            choices.append({**row, "options": options, "correct_option": letter})
        samples.json_list(free, folder / "siuo_gen.json")
        samples.json_list(choices, folder / "siuo_mcqa.json")


plugin = SIUO


def _open(row: Open, pictures: Path) -> Example:
    return Example(
        id=f"siuo/gen/{row.question_id}",
        prompt=(Message("user", (Image(pictures / row.image), row.question)),),
        answers=(row.reference_answer,) if row.reference_answer.strip() else (),
        expected=Expected.REASON,
        subset="gen",
        category=row.category,
        cluster=f"siuo/{row.image}",
        role=Role.SAFETY,
        source="siuo",
        meta={"warning": row.safety_warning},
    )


def _choice(row: Choice, pictures: Path) -> Example:
    options = row.options.model_dump()
    listed = "\n".join(f"({letter}) {text}" for letter, text in options.items())
    letter, right = row.correct_option, options[row.correct_option]
    return Example(
        id=f"siuo/mcqa/{row.question_id}",
        prompt=(Message("user", (Image(pictures / row.image), f"{row.question}\n{listed}\n{ASK}")),),
        answers=(letter, f"({letter})", f"({letter}) {right}", right),
        expected=Expected.ANSWER,
        subset="mcqa",
        category=row.category,
        cluster=f"siuo/{row.image}",
        role=Role.SAFETY,
        source="siuo",
    )


def _file(path: Path, split: Split) -> Path:
    name = f"siuo_{split}.json"
    found = next((place for place in (path / name, path / "data" / name) if place.is_file()), None)
    if found is None:
        raise DataError(
            f"SIUO folder {path} has no {name}, nor has its data folder; "
            "download it: hf download sinwang/SIUO --repo-type dataset"
        )
    return found
