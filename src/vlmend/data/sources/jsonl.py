"""Conversations or preference pairs from a JSON Lines, JSON, CSV, TSV or parquet file, in any common format.

`vlmend.data.formats` says what a row may hold. JSON Lines, CSV and parquet are streamed; a .json file is one list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlmend.data import formats, samples
from vlmend.types import Example, Pair, Role


@dataclass(frozen=True)
class Jsonl:
    """Settings: the file, the folder its pictures are named from (default: the file's own), where ids come from, the
    role of rows to be answered that name none (rows to be refused are safety data), and which keys mean which.

    With `placeholders: text`, `<image>` and other marks for pictures are text like any other.

    `ids: row` numbers the rows, for files whose own ids are not unique. `map: question:prompt,img:image` reads the
    key `question` as `prompt` and `img` as `image`.
    """

    path: Path
    images: Path | None = None
    ids: Literal["given", "row"] = "given"
    role: Role = Role.UTILITY
    map: str = ""
    placeholders: Literal["places", "text"] = "places"

    def __iter__(self) -> Iterator[Example | Pair]:
        """Examples or pairs in the order of the file; the first bad row raises DataError with its line."""
        options = formats.Options(_stem(self.path), self.ids, self.role, self.map, self.placeholders)
        yield from formats.items(formats.rows_of(self.path, self.images), options)

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write rows.jsonl: 24 rows with a picture each, half of them to be answered, half to be refused."""
        rows: list[dict[str, Any]] = []
        both = zip(samples.requests("safe", 12, seed=seed), samples.requests("unsafe", 12, seed=seed), strict=True)
        for number, example in enumerate(example for two in both for example in two):
            name = f"images/{number}.png"
            samples.picture(example.images[0], folder / name)
            said = {"prompt": example.question, "answer": example.answers[0], "image": name}
            rows.append({"id": f"row-{number}", **said, "expected": example.expected, "subset": example.subset})
        samples.json_lines(rows, folder / "rows.jsonl")


def _stem(file: Path) -> str:
    return Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem


plugin = Jsonl
