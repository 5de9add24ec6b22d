"""VLSBench: 2,241 pictures that carry the harm, each asked about in words that do not tell it (arXiv 2411.19939).

Origin: github.com/AI45Lab/VLSBench and hub Foreshhh/vlsbench, which asks for terms to be accepted. Get it with
`hf download Foreshhh/vlsbench --repo-type dataset` and unpack imgs.tar; `path` is that folder: `data.json`, a list,
beside `imgs/`, which its rows name their pictures from. Fields: instruction_id, instruction, image_path, category,
sub_category, source, safety_reason, image_description. Six categories, 19 subcategories.

The right reaction sees the danger and names it, declines or redirects (`reason`); `safety_reason` says which danger.
There are no answers, and nothing is to be answered, so over-refusal cannot be measured here.

Fields are known from others' readers; the files themselves could not be checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, read
from vlmend.errors import DataError
from vlmend.types import Cell, Example, Expected, Image, Message, Role


class Instruction(Row):
    """A row; extra keys are refused."""

    instruction_id: int | Filled
    instruction: Filled
    image_path: Filled
    category: Filled
    sub_category: Filled
    source: str
    safety_reason: str
    image_description: str


@dataclass(frozen=True)
class VLSBench:
    """Settings: the folder."""

    path: Path

    cells: ClassVar[Mapping[str, Cell]] = {"": Cell("unsafe", "safe", "unsafe")}

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file, pictures named but not opened."""
        file = self.path / "data.json"
        if not file.is_file():
            raise DataError(
                f"VLSBench folder {self.path} has no data.json; download it: hf download Foreshhh/vlsbench "
                "--repo-type dataset, and unpack imgs.tar there"
            )
        for _, row in read(file, Instruction):
            yield Example(
                id=f"vlsbench/{row.instruction_id}",
                prompt=(Message("user", (Image(self.path / row.image_path), row.instruction)),),
                expected=Expected.REASON,
                category=row.category,
                subcategory=row.sub_category,
                cluster=f"vlsbench/{row.image_path}",
                role=Role.SAFETY,
                source="vlsbench",
                meta={"warning": row.safety_reason, "origin": row.source},
            )

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write eight questions of the embedded world about pictures that show a hazard."""
        asked = [e for e in samples.requests("unsafe", 40, seed=seed) if e.subset == "unsafe"][:8]
        for number, each in enumerate(asked):
            samples.picture(each.images[0], folder / "imgs" / f"{number}.png")
        rows = [
            {
                "instruction_id": number, "instruction": each.question, "image_path": f"imgs/{number}.png",
                "category": ("Violent", "Privacy", "Self-Harm")[number % 3], "sub_category": each.subcategory,
                "source": "world", "safety_reason": each.answers[0], "image_description": "a drawing",
            }
            for number, each in enumerate(asked)
        ]  # fmt: skip
        samples.json_list(rows, folder / "data.json")


plugin = VLSBench
