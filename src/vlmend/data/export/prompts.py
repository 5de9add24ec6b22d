"""Prompts for programs that sample the answers themselves: TRL's online trainers, and verl.

A row is what the model is shown, its pictures inside, and the whole example as JSON, which both hand on to the reward:
TRL in a column of its own (`example`), verl as `reward_model.ground_truth`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmend.data.export.files import TEXT, listed, write_table
from vlmend.data.export.forms import Row, marked, part_of, refuse_moving
from vlmend.data.rows import refuse_halves
from vlmend.errors import DataError
from vlmend.store import example_from_json, example_to_json, write_atomic
from vlmend.types import Example

IMAGES = "images"  # the folder of pictures beside the rows, for rewards that look at them
PICTURE: Row = {"_type": "Image"}
NUMBER: Row = {"dtype": "int64", "_type": "Value"}


def write(examples: Iterable[Example], program: str, folder: Path) -> Path:
    """Write `train.parquet`, and the pictures beside it once more. Raises DataError for what a row cannot say."""
    row, features = PROGRAMS[program]
    file = folder / "train.parquet"
    write_table(_rows(examples, row, folder), file, features)
    return file


def _rows(examples: Iterable[Example], row: Callable[[Example, int, str], Row], folder: Path) -> Iterator[Row]:
    for number, example in enumerate(examples):
        try:
            refuse_halves([m.text for m in example.prompt])
            _keep_pictures(example, folder / IMAGES)
            said = row(example, number, json.dumps(_portable(example), ensure_ascii=False))
            yield {**said, IMAGES: [{"bytes": image.read(), "path": None} for image in example.images]}
        except DataError as error:
            raise DataError(f"{example.id!r} cannot be written: {error}") from error


def _trl(example: Example, number: int, known: str) -> Row:
    del number
    turns = [{"role": m.role, "content": [part_of(part) for part in m.parts]} for m in example.prompt]
    return {"prompt": turns, "example": known}


def _verl(example: Example, number: int, known: str) -> Row:
    refuse_moving(example)
    return {
        "data_source": "vlmend",
        "prompt": [{"role": m.role, "content": marked(m, "")} for m in example.prompt],
        "ability": str(example.expected),
        "reward_model": {"style": "rule", "ground_truth": known},
        "extra_info": {"split": "train", "index": number, "id": example.id},
    }


PROGRAMS: Mapping[str, tuple[Callable[[Example, int, str], Row], Row]] = {
    "trl": (
        _trl,
        {
            "prompt": listed({"role": TEXT, "content": listed({"type": TEXT, "text": TEXT})}),
            "example": TEXT,
            IMAGES: listed(PICTURE),
        },
    ),
    "verl": (
        _verl,
        {
            "data_source": TEXT,
            "prompt": listed({"role": TEXT, "content": TEXT}),
            IMAGES: listed(PICTURE),
            "ability": TEXT,
            "reward_model": {"style": TEXT, "ground_truth": TEXT},
            "extra_info": {"split": TEXT, "index": NUMBER, "id": TEXT},
        },
    ),
}


def _portable(example: Example) -> Row:
    """As plain data, pictures by content alone: the folder may be read on another machine."""
    row = example_to_json(example)
    for turn in row["prompt"]:
        turn["parts"] = [{**part, "path": None} if isinstance(part, dict) else part for part in turn["parts"]]
    return row


def _keep_pictures(example: Example, folder: Path) -> None:
    for image in example.images:
        file = folder / f"{image.sha256}.png"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(file, image.read(), sync=False)


def read(known: str, folder: Path) -> Example:
    """The example that a row was made of, from what its program handed on."""
    row: Any = json.loads(known)
    return example_from_json(row, folder / IMAGES)
