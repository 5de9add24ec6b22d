"""Harmless fillings for samples: drawn pictures with requests and answers, to be written in some data set's layout.

A sample shows what a layout looks like and lets a pipeline be tried before the real data are there. Flasks, bolts and
blades stand for unsafe content.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vlmend.registry import sources
from vlmend.types import Example, Image

Kind = Literal["unsafe", "safe", "utility", "perception", "alignment"]


def requests(kind: Kind, n: int, *, seed: int = 0) -> Iterator[Example]:
    """`n` requests of the embedded world: `unsafe` ones have a refusal as reference, the others an answer."""
    return iter(sources.build("world", {"kind": kind, "n": n, "seed": seed}))


def picture(image: Image, file: Path) -> None:
    """Write a picture, folders included."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image.read())


def json_list(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write rows as one JSON list."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def json_object(held: Mapping[str, Any], file: Path) -> None:
    """Write one JSON object."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(held, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def json_lines(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write rows as JSON Lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def table(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write rows as CSV with a header, or with tabs in a .tsv."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if file.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


def parquet(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write rows as a parquet file."""
    import pyarrow as arrow
    from pyarrow import parquet as writer

    file.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(arrow.Table.from_pylist(rows), file)


def cell(image: Image, name: str) -> dict[str, Any]:
    """A picture as a cell of a parquet file on the hub."""
    return {"bytes": image.read(), "path": name}
