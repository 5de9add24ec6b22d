"""The nouns as plain data and back, without loss. What is read back is of the type it should be, or an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from vlmend.errors import DataError, StoreError
from vlmend.rgb import MAX_PIXELS
from vlmend.store.files import Row
from vlmend.types import Example, Expected, Finish, Image, Message, Part, Response, Role, Verdict, digest


def response_to_json(response: Response) -> Row:
    """A response as plain data. What is so of nearly all is left out."""
    row = asdict(response)
    if response.calls == 1:
        del row["calls"]
    if not response.hurried:
        del row["hurried"]
    return row


def response_from_json(row: Row) -> Response:
    """Inverse of `response_to_json`. Raises StoreError for a field that is missing or of another type."""
    settings: Row = {**_known(row, Response), "finish": Finish(row["finish"])}
    return Response(**settings)


def verdict_to_json(verdict: Verdict, example_id: str, judged: str = "") -> Row:
    """A verdict as plain data, with the example it was given for: two examples may share one response.

    `judged` is the hash of what was judged (see `judged_key`), where that is to be held on to.
    """
    row = {name: getattr(verdict, name) for name in _names(Verdict) if name != "scores"}
    further: Row = {"scores": dict(verdict.scores)} if verdict.scores else {}
    further |= {"judged": judged} if judged else {}
    return {"example_id": example_id, **row, "labels": dict(verdict.labels), **further}


def verdict_from_json(row: Row) -> Verdict:
    """Inverse of `verdict_to_json`, without the example's id and what was judged. Raises as `response_from_json`."""
    text(row, "example_id")
    if "judged" in row:
        text(row, "judged")
    return Verdict(**_known(row, Verdict))


def judged_key(example: Example, response: Response) -> str:
    """Hash of what a verdict is about, beside the pictures: the answer, what was asked, and what was known of it.

    Who edits any of these has another answer, or another question, of which the verdict says nothing.
    """
    asked = [[message.role, *(p for p in message.parts if isinstance(p, str))] for message in example.prompt]
    known = [list(example.answers), example.expected, example.category, example.subcategory, dict(example.meta)]
    return digest(response.text, response.reasoning, response.finish, asked, known)


def example_to_json(example: Example) -> Row:
    """An example as plain data; an image is its content hash and, when it is a file, its absolute path."""
    often_empty = {name for name in ("avoid", "reasoning") if not getattr(example, name)}
    row = {name: getattr(example, name) for name in _names(Example) if name not in often_empty}
    prompt = [_message_to_json(m) for m in example.prompt]
    return {**row, "prompt": prompt, "answers": list(example.answers), "meta": dict(example.meta)}


def example_from_json(row: Row, images: Path | None = None) -> Example:
    """Inverse of `example_to_json`; pictures that are no files are read from the folder `images`.

    Every picture has to be the one that was recorded: other bytes in its place raise DataError where they are read.
    Raises StoreError for a field that is missing or of another type.
    """
    known = _known(row, Example)
    made: Mapping[str, Callable[[Any], Any]] = {"answers": tuple, "avoid": tuple, "expected": Expected, "role": Role}
    settings: Row = {name: made.get(name, lambda value: value)(value) for name, value in known.items()}
    settings["prompt"] = tuple(_message_from_json(m, images) for m in row["prompt"])
    return Example(**settings)


def _message_from_json(row: Any, images: Path | None) -> Message:
    parts = row.get("parts") if isinstance(row, dict) else None
    if not isinstance(parts, list) or row.get("role") not in ("system", "user", "assistant"):
        raise StoreError("'prompt' should be a list of turns, each with a 'role' and its 'parts'")
    turn: Row = row
    supervised = _fitting(turn, "supervised", "bool") if "supervised" in turn else True
    return Message(turn["role"], tuple(_part_from_json(part, images) for part in cast("list[Any]", parts)), supervised)


# What a field of a noun may be, by how it is declared there. Newer files may have more keys: those are left alone.


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _map_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, cast("dict[str, Any]", value).values()))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _one_of(values: Iterable[str]) -> tuple[Callable[[Any], bool], str]:
    known = tuple(values)
    return (lambda value: isinstance(value, str) and value in known), f"one of {', '.join(known)}"


FITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "str": (_is_text, "a text"),
    "int": (_is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "float | None": (_or_none(_is_number), "a number or null"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "bool | None": (_or_none(lambda value: isinstance(value, bool)), "true, false or null"),
    "Mapping[str, str]": (_map_of(_is_text), "an object of texts"),
    "Mapping[str, float]": (_map_of(_is_number), "an object of numbers"),
    "tuple[str, ...]": (lambda value: _is_list(value) and all(map(_is_text, value)), "a list of texts"),
    "tuple[Message, ...]": (lambda value: _is_list(value) and bool(value), "a list of turns"),
    "Finish": _one_of(Finish),
    "Expected": _one_of(Expected),
    "Role": _one_of(Role),
}


def text(row: Row, name: str) -> str:
    """A text of a row that has to have it. Raises StoreError."""
    return cast("str", _fitting(row, name, "str"))


def whole(row: Row, name: str) -> int:
    """A whole number of a row that has to have it. Raises StoreError."""
    return cast("int", _fitting(row, name, "int"))


def _known(row: Row, noun: type[Any]) -> Row:
    """The row's keys that are fields of the noun, each of the type that is declared there."""
    return {
        name: _fitting(row, name, declared)
        for name, (declared, needed) in _declared(noun).items()
        if needed or name in row
    }


def _fitting(row: Row, name: str, declared: str) -> Any:
    if name not in row:
        raise StoreError(f"has no {name!r}")
    fits, told = FITS[declared]
    if not fits(row[name]):
        shown = repr(row[name])
        raise StoreError(f"{name!r} should be {told}, is {shown if len(shown) <= 60 else shown[:59] + '…'}")
    return row[name]


def _names(noun: type[Any]) -> tuple[str, ...]:
    return tuple(_declared(noun))


@cache
def _declared(noun: type[Any]) -> Mapping[str, tuple[str, bool]]:
    """How each field of a noun is declared, and whether it has to be there. Asking it each time takes longer."""
    return {f.name: (str(f.type), f.default is MISSING and f.default_factory is MISSING) for f in fields(noun)}


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
    row: Row = {"sha256": sha256, "path": str(part.path.absolute()) if part.path else None}
    return row if part.max_pixels == MAX_PIXELS else {**row, "max_pixels": part.max_pixels}


def _part_from_json(part: Any, images: Path | None) -> Part:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or not {"sha256", "path"} <= part.keys():
        raise StoreError("a part of 'prompt' should be a text or a picture with 'sha256' and 'path'")
    place, sha256 = cast("Row", part)["path"], cast("Row", part)["sha256"] or ""
    if not isinstance(sha256, str) or not (place is None or isinstance(place, str)):
        raise StoreError("a picture's 'sha256' and 'path' should be texts or null")
    most = cast("Row", part).get("max_pixels", MAX_PIXELS)
    if not isinstance(most, int):
        raise StoreError("a picture's 'max_pixels' should be a whole number")
    path = Path(place) if place else None
    stored = images / f"{sha256}.png" if images else None
    if path and (path.exists() or not (stored and stored.exists())):
        return Image(path=path, recorded=sha256, max_pixels=most)
    return Image(make=partial(_stored_picture, stored, sha256), recorded=sha256, max_pixels=most)


def _stored_picture(path: Path | None, sha256: str) -> bytes:
    if path is None:
        raise DataError(f"picture {sha256[:12]} was drawn, and there is no folder to read it from")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"picture {path} cannot be read: {error.strerror}") from error
