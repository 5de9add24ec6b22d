"""Tables that other evaluators write: xlsx, tsv, csv, and JSON lists of rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmend.errors import DataError

Row = Mapping[str, Any]


def table(file: Path) -> list[Row]:
    """Rows of a table; none where a file is something else."""
    try:
        match file.suffix:
            case ".xlsx":
                return _sheet(file)
            case ".json":
                data = json.loads(file.read_text(encoding="utf-8"))
                return data if isinstance(data, list) and all(isinstance(row, dict) for row in data) else []
            case ".tsv" | ".csv":
                csv.field_size_limit(2**31 - 1)  # pictures stand in some tables
                with file.open(encoding="utf-8-sig", newline="") as lines:
                    return list(csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","))
            case _:
                return []
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a table: {error}") from error


def _sheet(file: Path) -> list[Row]:
    try:
        from openpyxl import load_workbook  # pyright: ignore[reportMissingModuleSource]
    except ImportError as error:
        raise DataError(
            f"{file}: reading xlsx needs openpyxl: pip install 'vlmend[xlsx]', or let VLMEvalKit write tsv with"
            " PRED_FORMAT=tsv"
        ) from error
    book = load_workbook(file, read_only=True, data_only=True)
    lines: Iterator[tuple[Any, ...]] = book.active.iter_rows(values_only=True)  # type: ignore[union-attr]
    head = [str(name) for name in next(lines, ())]
    return [dict(zip(head, line, strict=False)) for line in lines]
