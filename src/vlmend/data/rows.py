"""Files of rows, read strictly: a source says in a class what a row holds; one that differs is named by file and line.

    class Record(Row):
        id: str
        image: str

    for number, record in read(folder / "train.json", Record): …

JSON Lines, CSV and parquet are streamed; a .json file is one list and is read whole.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmend.config import explain
from vlmend.errors import DataError

LONGEST = 64 << 20  # bytes of a line, well above a row with its pictures inline
BATCH = 1024  # rows of a parquet file that are decoded at once


class Row(BaseModel):
    """Base of every row: no key too many, none too few, each of its type (a numeral in a text is a number)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Filled = Annotated[str, Field(min_length=1)]  # a text that may not be empty
R = TypeVar("R", bound=BaseModel)


class Place(NamedTuple):
    """Where a row stands, for messages: `data/train.json row 5` (from 0), `rows.jsonl line 6` (from 1)."""

    file: Path
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.file} {self.unit} {self.number}"


def read(file: Path, kind: type[R], suffix: str = "") -> Iterator[tuple[int, R]]:
    """Every row of a file as `kind`, with its number from 0. Raises DataError naming file and place."""
    for number, (place, value) in enumerate(values(file, suffix)):
        yield number, check(kind, value, place)


def check(kind: type[R], value: object, place: object) -> R:
    """The value as a row of `kind`. Raises DataError that begins with the place."""
    if not isinstance(value, dict):
        raise DataError(f"{place}: should be an object, is {_name(value)}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{place}: {_shortened(explain(error, kind))}") from error


def values(file: Path, suffix: str = "") -> Iterator[tuple[Place, Any]]:
    """Place and content of every row of a .json, .jsonl, .csv, .tsv or .parquet file; other names are JSON Lines.

    `suffix` says what the file is where its name does not: JSON Lines that are called .json, for one.
    Raises DataError for a file that is missing, empty, not UTF-8 or not what its name says.
    """
    reader = READERS.get(suffix or file.suffix.lower(), _lines)
    try:
        if not file.stat().st_size:
            raise DataError(f"{file} is empty (0 bytes)")
        yield from reader(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {' '.join((error.strerror or str(error)).split())}") from error


def parse(text: str | bytes, place: object) -> Any:
    """The JSON of a text in UTF-8. Raises DataError that begins with the place."""
    try:
        # json.loads would guess at UTF-16 and UTF-32 as well; what reads one file must not refuse the next.
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: is not valid JSON: {error}") from error


def mapping(file: Path) -> dict[str, Any]:
    """The one JSON object that a file holds. Raises DataError for a file that is missing, empty or something else."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if not text:
        raise DataError(f"{file} is empty (0 bytes)")
    held = parse(text, file)
    if not isinstance(held, dict):
        raise DataError(f"{file} should hold an object, it holds {_name(held)}")
    if len(text) > LONGEST and (long := next((key for key, entry in held.items() if _length(entry) > LONGEST), None)):
        raise too_long(f"{file}: {long[:80]!r}", "one entry of many")
    return held


def _list(file: Path) -> Iterator[tuple[Place, Any]]:
    entries = parse(file.read_bytes(), file)
    if not isinstance(entries, list):
        raise DataError(f"{file} should hold a list of rows, it holds {_name(entries)}")
    sized = file.stat().st_size > LONGEST
    for number, entry in enumerate(entries):
        place = Place(file, "row", number)
        if sized and _length(entry) > LONGEST:
            raise too_long(place, "a file of rows")
        yield place, entry


def _length(value: object) -> int:
    """About how many bytes a value takes as JSON: its texts, names of keys included."""
    if isinstance(value, dict):
        return sum(_length(key) + _length(held) for key, held in value.items())
    if isinstance(value, list):
        return sum(map(_length, value))
    return len(value) if isinstance(value, str | bytes) else 8


def too_long(place: object, meant: str) -> DataError:
    """What to say of a row that cannot be one."""
    return DataError(f"{place}: is longer than {LONGEST >> 20} MiB; is this {meant}?")


def _lines(file: Path) -> Iterator[tuple[Place, Any]]:
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(LONGEST + 1):
            number += 1
            place = Place(file, "line", number)
            if len(line) > LONGEST:
                raise too_long(place, "a file of JSON lines")
            if line.strip():
                yield place, parse(line, place)


def _table(file: Path) -> Iterator[tuple[Place, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, strict=True, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        while True:
            place = Place(file, "line", max(rows.line_num, 1) + 1)  # the header is line 1
            try:
                row = next(rows, None)
            except UnicodeDecodeError as error:
                raise DataError(f"{place}: is not UTF-8 ({error.reason})") from error
            except csv.Error as error:
                raise DataError(f"{place}: is not valid CSV: {error}") from error
            if row is None and rows.line_num < 2:
                raise DataError(f"{file} has a header and no rows, or is no table at all")
            if row is None:
                return
            if None in row or None in row.values():
                raise DataError(f"{place}: has another number of cells than the {len(rows.fieldnames or ())} columns")
            yield place, row


def _parquet(file: Path) -> Iterator[tuple[Place, Any]]:
    import pyarrow as arrow
    from pyarrow import parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches(BATCH):
            for row in batch.to_pylist():
                place = Place(file, "row", number)
                if _length(row) > LONGEST:
                    raise too_long(place, "a table of examples")
                yield place, row
                number += 1
    except arrow.ArrowInvalid as error:
        raise DataError(f"{file} is not a parquet file: {error}") from error


READERS = {".json": _list, ".csv": _table, ".tsv": _table, ".parquet": _parquet}


def _name(value: object) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "nothing",
    }
    return names.get(type(value), "a number")


def _shortened(message: str, most: int = 400) -> str:
    return message if len(message) <= most else f"{message[:most]}…"
