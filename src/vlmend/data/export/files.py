"""Rows to files: JSON Lines, one JSON list, or parquet with the columns that `datasets` is told of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vlmend.data.export.album import Album
from vlmend.data.export.forms import LABELS, Row
from vlmend.data.formats import PARTS
from vlmend.errors import DataError

BATCH = 256  # rows that parquet takes at once; with pictures inside they are large


def write_lines(rows: Iterator[Row], file: Path) -> None:
    """One row a line."""
    with file.open("wb") as stream:
        for row in rows:
            stream.write(encoded(row) + b"\n")


def write_list(rows: Iterator[Row], file: Path) -> None:
    """A JSON list, one row a line."""
    with file.open("wb") as stream:
        stream.write(b"[")
        for number, row in enumerate(rows):
            stream.write((b",\n" if number else b"\n") + encoded(row))
        stream.write(b"\n]\n")


def encoded(row: Mapping[str, Any]) -> bytes:
    """A row as JSON."""
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair in a label, which only an escape can say
        return json.dumps(row).encode()


def add_to_all(file: Path, key: str, value: object) -> None:
    """Write a value into every row of a file of ours that has none under this key."""
    part = file.with_name(f"{file.name}2")
    try:
        with file.open("rb") as lines, part.open("wb") as stream:
            for line in lines:
                text, end = line.rstrip(b",\n"), line[len(line.rstrip(b",\n")) :]
                stream.write(encoded({**json.loads(text), key: value}) + end if _lacks(text, key) else line)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _lacks(line: bytes, key: str) -> bool:
    return line.startswith(b"{") and key not in json.loads(line)


def parquet_writer(form: str, album: Album) -> Callable[[Iterator[Row], Path], None]:
    """What writes rows of a format as parquet. Pictures that open from anywhere are an `Image` of `datasets`."""
    anywhere: Row = {"_type": "Image"}
    beside: Row = {"bytes": {"dtype": "binary", "_type": "Value"}, "path": TEXT}
    picture = TEXT if not album.cells else beside if album.naming == "relative" else anywhere

    def write(rows: Iterator[Row], file: Path) -> None:
        first = list(islice(rows, 1))
        pairs = bool(first) and not first[0].keys().isdisjoint(("chosen", "rejected_response"))
        write_table(chain(first, rows), file, {**_said(form, pairs=pairs), **_beside(picture, pairs=pairs)})

    return write


def write_table(rows: Iterator[Row], file: Path, features: Row) -> None:
    """Rows as parquet with these columns, as `datasets` describes them."""
    import pyarrow as arrow
    from pyarrow import parquet

    schema = _schema(features)
    with parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, BATCH)):
            try:
                writer.write_table(arrow.Table.from_pylist([_in_full(row) for row in some], schema))
            except UnicodeEncodeError as error:
                raise DataError(f"parquet cannot hold a text of these rows: {error}") from error


def _in_full(row: Row) -> Row:
    """No pictures are an empty list of them."""
    return {"images": [], **row}


def _schema(features: Row) -> Any:
    """The columns, and what `datasets` needs to know about them: that pictures are pictures."""
    import pyarrow as arrow

    about = json.dumps({"info": {"features": features}})
    return arrow.schema([(name, _arrow(feature)) for name, feature in features.items()], {"huggingface": about})


TEXT: Row = {"dtype": "string", "_type": "Value"}
FLAG: Row = {"dtype": "bool", "_type": "Value"}


def _said(form: str, *, pairs: bool) -> Row:
    """The columns of what is said."""
    blocks = {"role": TEXT, "content": listed({"type": TEXT, "text": TEXT})}
    if form == "llamafactory":
        turn = {"from": TEXT, "value": TEXT}
        sides = {"chosen": turn, "rejected": turn} if pairs else {}
        return {"id": TEXT, "conversations": listed({**turn, "loss": FLAG}), **sides}
    if form == "swift":
        sides = {"rejected_response": TEXT} if pairs else {}
        return {"id": TEXT, "messages": listed({"role": TEXT, "content": TEXT, "loss": FLAG}), **sides}
    if form == "alpaca":
        sides = {"chosen": TEXT, "rejected": TEXT} if pairs else {"output": TEXT}
        return {
            "id": TEXT,
            "instruction": TEXT,
            "input": TEXT,
            **sides,
            "history": listed(listed(TEXT)),
            "system": TEXT,
        }
    if form == "trl_messages":
        return {"id": TEXT, "messages": listed({**blocks, "loss": FLAG})}
    answer = listed(blocks)
    sides = {"chosen": answer, "rejected": answer} if pairs else {"completion": answer}
    return {"id": TEXT, "prompt": listed({**blocks, "loss": FLAG}), **sides}


def _beside(picture: Row, *, pairs: bool) -> Row:
    """The columns of pictures and labels."""
    more = {"rejected_images": listed(picture)} if pairs else {"label": FLAG, "expected": TEXT, "answers": listed(TEXT)}
    exact = {PARTS: listed(listed(TEXT))}
    labels = dict.fromkeys((key for key in LABELS if key not in ("expected", "answers")), TEXT)
    return {"images": listed(picture), **more, **labels, **exact}


def listed(feature: Row) -> Row:
    """A list of these."""
    return {"feature": feature, "_type": "List"}


def _arrow(feature: Row) -> Any:
    """The arrow type of a feature of `datasets`, written as its metadata are."""
    import pyarrow as arrow

    kind = feature.get("_type")
    if kind == "Value":
        return arrow.type_for_alias(feature["dtype"])
    if kind == "List":
        return arrow.list_(_arrow(feature["feature"]))
    if kind == "Image":
        return arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    return arrow.struct([(name, _arrow(inner)) for name, inner in feature.items()])
