"""Files of rows, read strictly: a source says in a class what a row holds; one that differs is named by file and line.

    class Record(Row):
        id: str
        image: str

    for number, record in read(folder / "train.json", Record): …

JSON Lines, CSV and parquet are streamed; a .json file is one list and is read whole, or JSON Lines after all. All but
parquet may be packed with gzip (`rows.jsonl.gz`). A key that stands twice in an object and half a surrogate pair in a
text are refused: neither can be read as what was meant.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmend.config import explain
from vlmend.errors import DataError, brief

LONGEST = 64 << 20  # bytes of a line, well above a row with its pictures inline
BATCH = 1024  # rows of a parquet file that are decoded at once
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON writes half a surrogate pair; two halves in a row are a character
_tolerant: ContextVar[bool] = ContextVar("tolerant", default=False)


@contextmanager
def tolerant() -> Generator[None]:
    """Texts that cannot be used, but can be read, are let through: for a check that reports all of them."""
    token = _tolerant.set(True)
    try:
        yield
    finally:
        _tolerant.reset(token)


def is_tolerant() -> bool:
    """Whether somebody else looks for what is wrong with texts."""
    return _tolerant.get()


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

    `suffix` says what the file is where its name does not. JSON Lines that are called .json, and a list that is called
    .jsonl, are known by how they begin. Raises DataError for a file that is missing, empty, not UTF-8 or not what its
    name says.
    """
    reader = READERS.get(suffix or kind_of(file), _lines if suffix else _list_or_lines)
    try:
        if not file.stat().st_size:
            raise DataError(f"{file} is empty (0 bytes)")
        yield from reader(file)
    except (EOFError, zlib.error) as error:
        raise DataError(f"{file} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {' '.join((error.strerror or str(error)).split())}") from error


def kind_of(file: Path) -> str:
    """What a file is by its name: `.jsonl` of rows.jsonl and of rows.jsonl.gz."""
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def parse(text: str | bytes, place: object) -> Any:
    """The JSON of a text in UTF-8. Raises DataError that begins with the place."""
    try:
        # json.loads would guess at UTF-16 and UTF-32 as well; what reads one file must not refuse the next.
        said = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        held = DECODER.decode(said)
        if HALF.search(said) and not is_tolerant():
            refuse_halves(held)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: is not valid JSON: {error}") from error
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    return held


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys stands there twice: which of them counts is anybody's guess."""
    held = dict(pairs)
    if len(held) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise DataError(f"the key {brief(twice)} stands twice in one object")
    return held


DECODER = json.JSONDecoder(object_pairs_hook=once)


def refuse_halves(value: object) -> None:
    """Raise DataError for a text with half of a surrogate pair: no tokenizer, file or server can take it."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"a text has half of a surrogate pair ({value[error.start : error.start + 1]!r} after "
                f"{brief(value[: error.start][-20:])}), which UTF-8 cannot hold"
            ) from error
    elif isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        for each in cast("list[object]", inner):
            refuse_halves(each)


def mapping(file: Path) -> dict[str, Any]:
    """The one JSON object that a file holds. Raises DataError for a file that is missing, empty or something else."""
    held, sized = _whole(file)
    if sized:
        _refuse_long(file, held)
    return held


def listed(file: Path, key: str) -> tuple[dict[str, Any], Iterator[tuple[Place, Any]]]:
    """Of a file with one object: what it holds beside the list under a key, and place and content of each row of that.

    Raises DataError for a file that is missing, empty or something else.
    """
    held, sized = _whole(file)
    entries = held.pop(key, None)
    if not isinstance(entries, list):
        raise DataError(f"{file} should hold an object with the list {key!r}; it holds {brief(', '.join(held))}")
    if sized:
        _refuse_long(file, held)
    return held, _entries(file, key, cast("list[Any]", entries), sized)


def _whole(file: Path) -> tuple[dict[str, Any], bool]:
    """The one object of a file, and whether the file is longer than any row may be."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if not text:
        raise DataError(f"{file} is empty (0 bytes)")
    held = parse(text, file)
    if not isinstance(held, dict):
        raise DataError(f"{file} should hold an object, it holds {_name(held)}")
    return cast("dict[str, Any]", held), len(text) > LONGEST


def _refuse_long(file: Path, held: Mapping[str, Any]) -> None:
    if long := next((key for key, entry in held.items() if _length(entry) > LONGEST), None):
        raise too_long(f"{file}: {long[:80]!r}", "one entry of many")


def _entries(file: Path, key: str, entries: Sequence[Any], sized: bool) -> Iterator[tuple[Place, Any]]:
    for number, entry in enumerate(entries):
        place = Place(file, f"{key} row".lstrip(), number)
        if sized and _length(entry) > LONGEST:
            raise too_long(place, "a file of rows")
        yield place, entry


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb")


def _list(file: Path) -> Iterator[tuple[Place, Any]]:
    with _open(file) as stream:
        text = stream.read()
    if is_lines(text):
        yield from _lines(file)
        return
    entries = parse(text, file)
    if not isinstance(entries, list):
        raise DataError(f"{file} should hold a list of rows, it holds {_name(entries)}")
    yield from _entries(file, "", cast("list[Any]", entries), len(text) > LONGEST)


def is_lines(text: bytes) -> bool:
    """Whether a file holds objects, one a line, and no list: its first line is whole, and another follows."""
    first, _, rest = text.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not (first.startswith(b"{") and rest.lstrip().startswith(b"{")):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


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
    with _open(file) as stream:
        number = 0
        while line := stream.readline(LONGEST + 1):
            number += 1
            place = Place(file, "line", number)
            if len(line) > LONGEST:
                raise too_long(place, "a file of JSON lines")
            if line.removeprefix(b"\xef\xbb\xbf").strip():
                yield place, parse(line, place)


def _list_or_lines(file: Path) -> Iterator[tuple[Place, Any]]:
    """What a name does not tell, the first character does."""
    with _open(file) as stream:
        start = stream.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _list(file) if start.startswith(b"[") else _lines(file)


def _table(file: Path) -> Iterator[tuple[Place, Any]]:
    csv.field_size_limit(LONGEST)  # a cell may hold a picture
    with _open(file) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, strict=True, delimiter="\t" if kind_of(file) == ".tsv" else ",")
        names = rows.fieldnames if _decodes(file, rows) else None
        if names and (twice := next((name for name in names if names.count(name) > 1), None)):
            raise DataError(f"{Place(file, 'line', 1)}: two columns are called {brief(twice)}")
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


def _decodes(file: Path, rows: csv.DictReader[str]) -> bool:
    """Whether there is a header. Raises DataError where it cannot be read."""
    place = Place(file, "line", 1)
    try:
        return rows.fieldnames is not None
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: is not UTF-8 ({error.reason})") from error
    except csv.Error as error:
        raise DataError(f"{place}: is not valid CSV: {error}") from error


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
    except UnicodeDecodeError as error:
        raise DataError(f"{Place(file, 'row', number)}: is not UTF-8 ({error.reason})") from error
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
