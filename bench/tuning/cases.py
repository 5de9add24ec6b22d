"""What is tuned: the method, data of a published shape made on the spot, and how the published code batches it.

Questions have about 25 tokens and answers 35, pictures are noise in a natural size. Data are as a user of vlmend gives
them: rows of JSON Lines with roles, pairs and preference pairs. A *unit* is what the published code draws at once: one
example, or one of each role, or a preference pair.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from shapes import DEEP, SIZES, WORDS, Shape

Row = dict[str, Any]
Unit = dict[str, Row]  # by role; a preference pair is under `pair`
Make = Callable[[random.Random, int], list[Unit]]

FORGET, RETAIN, DECOUPLE = "forget", "retain", "decouple"
QUESTION, ANSWER, QUESTIONS = 25, 35, 8


@dataclass(frozen=True)
class Case:
    """A row of the table.

    make: the units of one optimizer step, `step` of them. batch: units of a forward pass in the published code.
    peer: the trainer of TRL that does the same. rmu trains three weights instead of adapters, in a deep thin model.
    """

    name: str
    about: str
    method: Mapping[str, Any]
    make: Make
    step: int
    batch: int = 1
    peer: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    deep: bool = False

    def shape(self, size: str) -> Shape:
        """The model's, in this size."""
        return (DEEP if self.deep else SIZES)[size]

    def examples(self, units: Iterable[Unit]) -> int:
        """How many answers are trained on: a preference pair has two."""
        return sum(2 if "pair" in unit else len(unit) for unit in units)


def _words(chance: random.Random, about: int) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(about - 5, about + 5)))


def _asked(chance: random.Random, picture: str, role: str = "utility", **more: Any) -> Row:
    said = {"prompt": _words(chance, QUESTION), "answer": _words(chance, ANSWER)}
    return {**said, "image": f"{picture}.jpg", "role": role, **more}


def _asked_often(each: Sequence[int]) -> Make:
    """One example per unit: pictures with so many questions each, round and round."""

    def make(chance: random.Random, step: int) -> list[Unit]:
        return [
            {"utility": _asked(chance, f"{step}-{picture}")} for picture, asked in enumerate(each) for _ in range(asked)
        ]

    return make


def _harmful(pictures: int, decouple: bool = False) -> Make:
    """SafeEraser: four forgotten and four retained answers on each harmful picture; what asks for the forgotten ones
    is asked about a harmless picture as well."""

    def make(chance: random.Random, step: int) -> list[Unit]:
        units: list[Unit] = []
        for picture in range(pictures):
            for number in range(QUESTIONS // 2):
                name, pair = f"{step}-{picture}", {"meta": {"pair": f"{step}-{picture}-{number}"}}
                unit = {FORGET: _asked(chance, name, FORGET, **pair), RETAIN: _asked(chance, name, RETAIN)}
                if decouple:
                    unit[DECOUPLE] = _asked(chance, f"{name}-harmless", DECOUPLE, **pair)
                    unit[DECOUPLE]["prompt"] = unit[FORGET]["prompt"]
                units.append(unit)
        return units

    return make


def _preferred(pairs: int) -> Make:
    def make(chance: random.Random, step: int) -> list[Unit]:
        units: list[Unit] = []
        for number in range(pairs):
            row = _asked(chance, f"{step}-{number}")
            del row["role"]
            row |= {"chosen": row.pop("answer"), "rejected": _words(chance, ANSWER)}
            units.append({"pair": row})
        return units

    return make


DOWN = {"tune": "full", "parameters": "*.layers.[567].mlp.down_proj.weight"}
RMU = {"name": "rmu", "layer": 7, "coefficient": 10.0, "alpha": 0.0, "alpha_hidden": 1.0}
CASES = {
    case.name: case
    for case in (
        Case("sft8", "SFT, 8 questions per picture", {"name": "sft"}, _asked_often([8, 8]), 16, peer="sft"),
        Case("gdpd8", "GD+PD, SafeEraser's pictures", {"name": "gd", "pd": True}, _harmful(2, decouple=True), 8),
        Case(
            "vlguard2", "SFT, 2 questions per safe picture, 1 per unsafe one", {"name": "sft"},
            _asked_often([2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1]), 16, batch=16, peer="sft",
        ),
        Case("dpo", "DPO, both answers to one question", {"name": "dpo", "beta": 0.1}, _preferred(8), 8, peer="dpo"),
        Case("npo8", "NPO, SafeEraser's pictures", {"name": "npo", "beta": 0.1}, _harmful(2), 8),
        Case("kl8", "KL, SafeEraser's pictures", {"name": "kl"}, _harmful(2), 8),
        Case("rmu", "RMU at layer 7 of 32", RMU, _harmful(2), 8, model=DOWN, deep=True),
        Case("single", "SFT, 1 question per picture", {"name": "sft"}, _asked_often([1] * 16), 16, 16, peer="sft"),
    )
}  # fmt: skip


def steps(case: Case, count: int, seed: int) -> list[list[Unit]]:
    """The units of so many optimizer steps."""
    chance = random.Random(f"{case.name}/{seed}")
    return [case.make(chance, step) for step in range(count)]


def write(units: Sequence[Unit], folder: Path, seed: int) -> Path:
    """The rows and their pictures, as a user has them. Pictures and ids of different seeds differ."""
    folder.mkdir(parents=True)
    rows = [row for unit in units for row in unit.values()]
    chance = np.random.default_rng(seed)
    for name in dict.fromkeys(row["image"] for row in rows):
        Image.fromarray(chance.integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(folder / name, quality=90)
    file = folder / "rows.jsonl"
    lines = (json.dumps({"id": f"{seed}-{number}", **row}) for number, row in enumerate(rows))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def read(file: Path) -> list[Unit]:
    """The units of a file, pictures by their whole path. A role that comes again begins the next unit."""
    units: list[Unit] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["image"] = str(file.parent / row["image"])
        role = "pair" if "chosen" in row else row["role"]
        if not units or role in units[-1]:
            units.append({})
        units[-1][role] = row
    return units
