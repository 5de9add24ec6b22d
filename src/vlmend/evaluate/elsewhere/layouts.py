"""Files of answers in the layouts that others write. A file is known by what it holds, and refused where it is none.

- VLGuard's `results/DATASET/ENGINE.json`: one object of answer by picture; the folder tells which subset was asked.
- SafeEraser's predictions: its records with `model_response1` …, `sd_response` and `Prediction` filled in.
- MIS's outputs: its records with `response`, a line each; two pictures.
- lmms-eval's `*_samples_TASK.jsonl`, VLMEvalKit's tables with `prediction`, LLaVA's answer files.
- Plain: an object of answer by id, or rows (JSON, JSON Lines, CSV, TSV, xlsx, parquet) with an id or a picture, and a
  text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from vlmend.data.rows import kind_of, parse, values
from vlmend.errors import DataError, brief
from vlmend.evaluate.sheets import table

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
VLGUARD = {"unsafes": "unsafe", "safe_unsafes": "safe_unsafe", "safe_safes": "safe_safe"}  # its names of the subsets
IDS = ("example_id", "id", "question_id", "qid", "sample_id", "index", "key")
TEXTS = ("prediction", "response", "output", "model_response", "generated_text", "completion", "text", "answer")
SHOWN = ("image", "image_path", "image_id", "picture", "img")
ASKED = ("question", "prompt", "instruction", "input", "query")
KNOWN = (
    "one object of answer by picture (VLGuard) or by id; SafeEraser's records with predictions; MIS's records with"
    " 'response'; samples of lmms-eval; tables of VLMEvalKit; or rows with an id or a picture"
    f" ({', '.join(IDS[:3])}, {', '.join(SHOWN[:2])}, …) and a text ({', '.join(TEXTS[:3])}, …)"
)
Row = Mapping[str, Any]


class Said(NamedTuple):
    """An answer, and all that its file says of what it answers. `text` is None where the file has none."""

    text: str | None
    place: str
    id: str = ""
    pictures: tuple[str, ...] = ()
    question: str = ""
    subset: str = ""
    sample: int = 0


def read(file: Path) -> tuple[str, list[Said]]:
    """What a file of answers is, in words, and its answers. Raises DataError for one of no known layout."""
    held = _object(file)
    if held is not None:
        return _by_key(file, held)
    rows = [(f"{file.name} row {n}", row) for n, row in enumerate(table(file), 1)] if kind_of(file) == ".xlsx" else [
        (f"{place.file.name} {place.unit} {place.number}", value) for place, value in values(file)
    ]  # fmt: skip
    first = rows[0][1] if rows else None
    if not isinstance(first, dict):
        raise DataError(f"{file} holds no answers in a layout that is known: {KNOWN}")
    for name, fits, reader in LAYOUTS:
        if fits(first):
            return name, [said for place, row in rows for said in reader(_checked(file, place, row), place)]
    keys = brief(", ".join(map(str, first)))
    raise DataError(f"{file} holds rows with {keys}, which is no layout of answers that is known: {KNOWN}")


def _object(file: Path) -> dict[str, Any] | None:
    """The one object that a .json file holds; None where it is something else."""
    if kind_of(file) != ".json":
        return None
    try:
        text = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if not text.lstrip().startswith(b"{"):
        return None
    try:
        held = parse(text, file)
    except DataError:
        if len(text.strip().splitlines()) > 1:  # JSON Lines that are called .json
            return None
        raise
    return held


def _by_key(file: Path, held: Mapping[str, Any]) -> tuple[str, list[Said]]:
    if not held or not all(isinstance(value, str) or value is None for value in held.values()):
        raise DataError(f"{file} is an object whose entries are no texts, which is no layout that is known: {KNOWN}")
    if all(PurePosixPath(key).suffix.lower() in PICTURES for key in held):
        subset = VLGUARD.get(file.absolute().parent.name, "")
        said = [Said(text, f"{file.name} {key!r}", pictures=(key,), subset=subset) for key, text in held.items()]
        return "one answer by picture, as VLGuard's evaluation writes them", said
    return "one answer by id", [Said(text, f"{file.name} {key!r}", id=key) for key, text in held.items()]


def _checked(file: Path, place: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{file}, {place}: should be an object, as the rows before")
    return cast("Row", row)


def _safeeraser(row: Row, place: str) -> Iterator[Said]:
    path = PurePosixPath(str(row.get("image_path") or row.get("image_id") or ""))
    name = f"{path.parent.name}/{path.stem}"
    for k, pair in enumerate(cast("Sequence[Row]", row["unsafe_pairs"])):
        question = str(pair.get("question") or "")
        given = [key for key in pair if key.startswith("model_response")]
        for sample, key in enumerate(sorted(given)):
            yield Said(_text(pair[key]), place, f"{name}/forget/{k}", question=question, sample=sample)
        if "sd_response" in pair:
            yield Said(_text(pair["sd_response"]), place, f"{name}/decouple/{k}", question=question)
    for key, pair in row.items():
        if key.startswith("UnharmPair_") and isinstance(pair, dict) and "Prediction" in pair:
            retained = f"{name}/retain/{key.removeprefix('UnharmPair_')}"
            yield Said(_text(pair["Prediction"]), place, retained, question=str(pair.get("Question") or ""))


def _mis(row: Row, place: str) -> Iterator[Said]:
    shown = str(row["image_path1"]), str(row["image_path2"])
    yield Said(_text(row["response"]), place, str(row.get("id", "")), shown, str(row.get("question") or ""))


def _lmms(row: Row, place: str) -> Iterator[Said]:
    """doc_id counts rows of the task's data, so it is no id of theirs: the document's own ids and pictures are."""
    doc: Row = row["doc"] if isinstance(row.get("doc"), dict) else {}
    said = row["filtered_resps"]
    asked = row.get("input") or doc.get(_first(doc, ASKED) or "")
    for sample, text in enumerate(said if isinstance(said, list) else [said]):
        yield Said(_text(text), place, _id(doc), _pictures(doc), asked if isinstance(asked, str) else "", sample=sample)


def _plain(row: Row, place: str) -> Iterator[Said]:
    sample = row.get("sample")
    yield Said(
        _text(row[_first(row, TEXTS) or ""]), place, _id(row), _pictures(row),
        str(row.get(_first(row, ASKED) or "") or ""), str(row.get("subset") or ""),
        int(sample) if isinstance(sample, int | str) and str(sample).isdigit() else 0,
    )  # fmt: skip


def _fits_plain(row: Row) -> bool:
    return bool(_first(row, TEXTS) and (_id(row) or _pictures(row)))


LAYOUTS = (
    ("SafeEraser's predictions", lambda row: isinstance(row.get("unsafe_pairs"), list), _safeeraser),
    ("MIS's outputs", lambda row: {"image_path1", "image_path2", "response"} <= row.keys(), _mis),
    ("samples of lmms-eval", lambda row: {"doc_id", "filtered_resps"} <= row.keys(), _lmms),
    ("a table of VLMEvalKit", lambda row: {"index", "prediction"} <= row.keys(), _plain),
    ("rows of answers", _fits_plain, _plain),
)


def _first(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _id(row: Row) -> str:
    return next((str(row[name]) for name in IDS if row.get(name) not in (None, "")), "")


def _pictures(row: Row) -> tuple[str, ...]:
    """Names of the pictures, where a row gives names."""
    for name in SHOWN:
        held = row.get(name)
        listed: list[Any] = held if isinstance(held, list) else [held]
        names = tuple(str(each) for each in listed if isinstance(each, str))
        if names and all(PurePosixPath(each).suffix.lower() in PICTURES for each in names):
            return names
    return ()


def _text(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else str(value)
