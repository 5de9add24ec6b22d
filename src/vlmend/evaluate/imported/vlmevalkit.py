"""What VLMEvalKit writes: `MODEL_DATASET.xlsx` (or tsv, csv, json) with predictions, beside it tables with a judge's
`hit` or `score` per row, and `…_acc.csv`, `…_score.csv`, `…_score.json` or `…_rating.json` with the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmend.errors import UsageError
from vlmend.evaluate.imported import Answer, Task
from vlmend.evaluate.sheets import table

TABLES = (".xlsx", ".tsv", ".csv", ".json")
NUMBERS = ("_acc", "_score", "_rating")  # how the names of files with totals end
PER_ROW = ("hit", "score", "eval_score", "rating")
Row = Mapping[str, Any]


def read(path: Path, model: str = "") -> list[Task]:
    """The data sets whose predictions lie in a folder, or in one file. Raises DataError for a table that is none, and
    UsageError where the file names do not tell the model's name from the data set's."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in TABLES)
    tables = {file: rows for file in files if (rows := table(file)) and "prediction" in rows[0]}
    # a judged table is named after the one with the predictions
    first = [
        f for f in tables
        if not any(g != f and g.parent == f.parent and f.stem.startswith(f"{g.stem}_") for g in tables)
    ]  # fmt: skip
    return [_task(file, tables, model) for file in first]


def _task(file: Path, tables: Mapping[Path, Sequence[Row]], model: str) -> Task:
    told = model or next((p.name for p in file.parents if p.name and file.stem.startswith(f"{p.name}_")), "")
    if not told:
        raise UsageError(
            f"{file.name}: which part of it is the model's name? name it with --model, or keep the file in a folder of"
            " that name, as VLMEvalKit does"
        )
    name = file.stem.removeprefix(f"{told}_")
    beside = sorted(f for f in file.parent.iterdir() if f.stem.startswith(f"{file.stem}_"))
    judged = {file: tables[file], **{f: tables[f] for f in beside if f in tables}}
    numbers: dict[str, dict[str, float]] = {}
    for rows in judged.values():
        for row in rows:
            for key in PER_ROW:
                if key in row and not math.isnan(value := _number(row[key])):
                    numbers.setdefault(str(row.get("index")), {})[key] = value
    rows = tables[file]
    if numbers:  # of questions that are asked in several orders, one is judged for all
        rows = [row for row in rows if str(row.get("index")) in numbers] or rows
    answers = [
        Answer(
            str(row.get("index", place)), str(row.get("question") or ""), str(row["prediction"] or ""),
            str(row.get("answer") or ""), str(row.get("category") or row.get("l2-category") or ""),
            numbers=numbers.get(str(row.get("index")), {}),
        )
        for place, row in enumerate(rows)
    ]  # fmt: skip
    totals = {key: value for f in beside if f.stem.endswith(NUMBERS) for key, value in _totals(f)}
    about = {"file": str(file), "beside": [f.name for f in beside], "rows": len(tables[file])}
    return Task("VLMEvalKit", name, told, answers, totals, about=about)


def _totals(file: Path) -> Iterator[tuple[str, float]]:
    """The numbers of a file by column; of several rows, by column and the row's first word (a split, a task)."""
    if file.suffix == ".json":
        data = json.loads(file.read_text(encoding="utf-8"))
        rows = [data] if isinstance(data, dict) else data
    else:
        rows = table(file)
    for row in rows:
        words = [str(value) for value in row.values() if isinstance(value, str) and math.isnan(_number(value))]
        label = f".{words[0]}" if words and len(rows) > 1 else ""
        for key, value in row.items():
            if not math.isnan(number := _number(value)):
                yield f"{key}{label}", number


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
