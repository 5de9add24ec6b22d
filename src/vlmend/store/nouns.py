"""The nouns as plain data and back, without loss."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from vlmend.errors import DataError
from vlmend.store.files import Row
from vlmend.types import Example, Expected, Finish, Image, Message, Part, Response, Role, Verdict


def response_to_json(response: Response) -> Row:
    """A response as plain data."""
    return asdict(response)


def response_from_json(row: Row) -> Response:
    """Inverse of `response_to_json`."""
    settings: Row = {**_known(row, Response), "finish": Finish(row["finish"])}
    return Response(**settings)


def verdict_to_json(verdict: Verdict, example_id: str) -> Row:
    """A verdict as plain data, with the example it was given for: two examples may share one response."""
    row = {name: getattr(verdict, name) for name in _names(Verdict) if name != "scores"}
    further = {"scores": dict(verdict.scores)} if verdict.scores else {}
    return {"example_id": example_id, **row, "labels": dict(verdict.labels), **further}


def verdict_from_json(row: Row) -> Verdict:
    """Inverse of `verdict_to_json`, without the example's id."""
    return Verdict(**_known(row, Verdict))


def example_to_json(example: Example) -> Row:
    """An example as plain data; an image is its content hash and, when it is a file, its absolute path."""
    row = {name: getattr(example, name) for name in _names(Example) if name != "avoid" or example.avoid}
    prompt = [_message_to_json(m) for m in example.prompt]
    return {**row, "prompt": prompt, "answers": list(example.answers), "meta": dict(example.meta)}


def example_from_json(row: Row, images: Path | None = None) -> Example:
    """Inverse of `example_to_json`; pictures that are no files are read from the folder `images`."""
    prompt = tuple(
        Message(m["role"], tuple(_part_from_json(part, images) for part in m["parts"]), m.get("supervised", True))
        for m in row["prompt"]
    )
    settings: Row = {
        **_known(row, Example),
        "prompt": prompt,
        "answers": tuple(row["answers"]),
        "expected": Expected(row["expected"]),
        "role": Role(row["role"]),
        "avoid": tuple(row.get("avoid", ())),
    }
    return Example(**settings)


def _known(row: Row, noun: type[Any]) -> Row:
    """The row's keys that are fields of the noun, so that newer files with more keys still open."""
    return {name: row[name] for name in _names(noun) if name in row}


@cache
def _names(noun: type[Any]) -> tuple[str, ...]:
    """A noun's fields. Asking a dataclass for them takes longer than making one."""
    return tuple(f.name for f in fields(noun))


def _message_to_json(message: Message) -> Row:
    row: Row = {"role": message.role, "parts": [_part_to_json(p) for p in message.parts]}
    return row if message.supervised else {**row, "supervised": False}


def _part_to_json(part: Part) -> str | Row:
    if not isinstance(part, Image):
        return part
    try:
        sha256 = part.sha256
    except DataError:  # an unreadable picture is still named; asking the model about it says what is wrong
        sha256 = None
    return {"sha256": sha256, "path": str(part.path.absolute()) if part.path else None}


def _part_from_json(part: str | Row, images: Path | None) -> Part:
    if isinstance(part, str):
        return part
    path = Path(part["path"]) if part["path"] else None
    stored = images / f"{part['sha256']}.png" if images else None
    if path and (path.exists() or not (stored and stored.exists())):
        return Image(path=path)
    return Image(make=partial(_stored_picture, stored, part["sha256"] or ""))


def _stored_picture(path: Path | None, sha256: str) -> bytes:
    if path is None:
        raise DataError(f"picture {sha256[:12]} was drawn, and there is no folder to read it from")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"picture {path} cannot be read: {error.strerror}") from error
