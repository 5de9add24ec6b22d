"""Conversations from a JSON or JSON Lines file, in any of the field's common row formats.

    {"messages": [{"role", "content": str | parts}], "images": [path]}      TRL, ms-swift, LLaMA-Factory
    {"prompt": str, "answer" | "completion" | "response": str, "image" | "images"}
    {"conversations": [{"from": "human" | "gpt", "value"}], "image"}        LLaVA
    {"messages": [{"role", "content": [{"type": "image_url", …}]}]}         OpenAI; local paths and data: URLs only

Optional in every row: id, expected, subset, category, subcategory, cluster, role, source. Other keys go to `meta`.
Nothing is fetched: a picture at an http address is refused.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from vlmend.errors import DataError, nearest
from vlmend.types import Example, Expected, Image, Message, Part, Role, Speaker

MARK = "<image>"
Choice = TypeVar("Choice", Expected, Role)
SPEAKERS: dict[str, Speaker] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
ANSWERS = ("answer", "completion", "response")
SHAPES = ("messages", "conversations", "prompt")
LABELS = ("id", "expected", "subset", "category", "subcategory", "cluster", "role", "source")
KNOWN = (*SHAPES, *ANSWERS, "image", "images", *LABELS)


@dataclass(frozen=True)
class Jsonl:
    """Settings: the file, the folder its pictures are named from (default: the file's own), where ids come from, and
    the role of rows to be answered that name none (rows to be refused are safety data).

    `ids: row` numbers the rows, for files whose own ids are not unique.
    """

    path: Path
    images: Path | None = None
    ids: Literal["given", "row"] = "given"
    role: Role = Role.UTILITY

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file; the first bad row raises DataError with its line."""
        folder = self.images if self.images is not None else self.path.parent
        used: dict[str, str] = {}
        shape = ""
        for number, where, row in _rows(self.path):
            try:
                found = _shape(row)
                if shape and found != shape:
                    raise DataError(f"this row has {found!r}, the rows before it have {shape!r}")
                shape = found
                name = str(row["id"]) if self.ids == "given" and "id" in row else f"{self.path.stem}/{number}"
                if name in used:
                    raise DataError(f"id {name!r} was used in {used[name]}; make ids unique, or read with ?ids=row")
                used[name] = where
                yield _example(row, shape, name, folder, self)
            except DataError as error:
                raise DataError(f"{self.path} {where}: {error}") from error


plugin = Jsonl


def _rows(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number, place and content of every row. A .json file holds a list; any other file one object per line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix == ".json":
        rows = _parse(text, path, "")
        if not isinstance(rows, list):
            raise DataError(f"{path} should hold a list of rows, it holds a {type(rows).__name__}")
        numbered = [(i, f"row {i}", row) for i, row in enumerate(rows)]
    else:
        lines = ((i, f"line {i + 1}", line) for i, line in enumerate(text.split("\n")) if line.strip())
        numbered = ((i, where, _parse(line, path, f" {where}")) for i, where, line in lines)
    for number, where, row in numbered:
        if not isinstance(row, dict):
            raise DataError(f"{path} {where}: should be an object, is a {type(row).__name__}")
        yield number, where, row


def _parse(text: str, path: Path, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}{where} is not valid JSON: {error}") from error


def _shape(row: Mapping[str, Any]) -> str:
    for key in SHAPES:
        if key in row:
            return key
    raise DataError(f"a row needs 'messages', 'conversations' or 'prompt'; this one has {', '.join(map(repr, row))}")


def _example(row: Mapping[str, Any], shape: str, name: str, folder: Path, settings: Jsonl) -> Example:
    named = [_picture(value, folder) for value in _named_pictures(row)]
    if shape == "prompt":
        turns, answers = _prompt(row), _answers(row)
    else:
        turns, answers = _turns(row[shape], shape), ()
    messages = _with_pictures(turns, named, folder, marked=bool(named) or shape == "conversations")
    if messages[-1].role == "assistant" and not answers:
        answers = (messages.pop().text,)
    if not messages or messages[-1].role != "user":
        raise DataError("a conversation needs a user's turn, and at most one answer after the last")
    expected = _choice(row, "expected", Expected, Expected.ANSWER)
    files = [image.path for message in messages for image in message.images if image.path is not None]
    return Example(
        id=name,
        prompt=tuple(messages),
        answers=tuple(answer for answer in answers if answer.strip()),
        expected=expected,
        cluster=_text(row, "cluster") or (_cluster(files[0], folder) if files else ""),
        role=_choice(row, "role", Role, settings.role if expected is Expected.ANSWER else Role.SAFETY),
        source=_text(row, "source") or settings.path.stem,
        meta=_meta(row),
        subset=_text(row, "subset"),
        category=_text(row, "category"),
        subcategory=_text(row, "subcategory"),
    )


def _cluster(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.as_posix()


def _prompt(row: Mapping[str, Any]) -> list[tuple[Speaker, list[Any]]]:
    prompt = row["prompt"]
    if isinstance(prompt, list):  # TRL's conversational form, whose completion is a list of messages too
        told = row.get("completion")
        return _turns(prompt, "prompt") + (_turns(told, "completion") if isinstance(told, list) else [])
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError("'prompt' should be a text or a list of messages")
    return [("user", [prompt])]


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    conversational = isinstance(row["prompt"], list) and isinstance(row.get("completion"), list)  # read with the prompt
    given = [key for key in ANSWERS if key in row and not (conversational and key == "completion")]
    if len(given) > 1:
        raise DataError(f"a row has one answer; this one has {' and '.join(map(repr, given))}")
    if not given:
        return ()
    value = row[given[0]]
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{given[0]!r} should be a text or a list of texts")
    return tuple(texts)


def _turns(messages: object, key: str) -> list[tuple[Speaker, list[Any]]]:
    """Speaker and raw parts of each turn; a part is a text or a content block."""
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{key!r} should be a list of messages")
    who, what = ("from", "value") if key == "conversations" else ("role", "content")
    turns: list[tuple[Speaker, list[Any]]] = []
    for message in messages:
        if not isinstance(message, dict) or who not in message or what not in message:
            raise DataError(f"a message in {key!r} needs {who!r} and {what!r}")
        speaker = SPEAKERS.get(message[who])
        if speaker is None:
            raise DataError(f"no speaker {message[who]!r}.{nearest(str(message[who]), SPEAKERS)}")
        content = message[what]
        if not isinstance(content, str | list) or not content:
            raise DataError(f"{what!r} of a message should be a text or a list of parts, and not empty")
        turns.append((speaker, content if isinstance(content, list) else [content]))
    return turns


def _with_pictures(
    turns: list[tuple[Speaker, list[Any]]], named: list[Image], folder: Path, *, marked: bool
) -> list[Message]:
    """Put pictures where the turns have a mark or an image block, in order; before the first question if none has."""
    left = list(named)
    marks = 0
    messages: list[Message] = []
    for speaker, raw in turns:
        parts: list[Part] = []
        for block in raw:
            for part in _parts(block, folder, marked=marked):
                marks += part is None
                if part is not None:
                    parts.append(part)
                elif left:
                    parts.append(left.pop(0))
        messages.append(Message(speaker, tuple(parts)))
    if marks == 0 and left:
        first = next((i for i, message in enumerate(messages) if message.role == "user"), 0)
        messages[first] = Message(messages[first].role, (*left, *messages[first].parts))
    elif marks != len(named):
        raise DataError(f"the text has {marks} places for pictures and the row names {len(named)}")
    return messages


def _parts(block: object, folder: Path, *, marked: bool) -> Iterator[Part | None]:
    """The parts of a text or content block; None is a place for the next picture of the row."""
    if isinstance(block, str):
        yield from _marked(block) if marked else (block,)
        return
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(block, dict) or kind not in ("text", "image", "image_url"):
        raise DataError(f"a content part should be a text, or an object of type text, image or image_url; got {kind!r}")
    if kind == "text":
        if not isinstance(block.get("text"), str):
            raise DataError("a content part of type text needs 'text'")
        yield block["text"]
        return
    inline = next((block[key] for key in ("image_url", "image", "path", "url") if block.get(key)), None)
    yield None if inline is None else _picture(inline, folder)


def _marked(text: str) -> Iterator[str | None]:
    """`<image>\\nWhat is it?` to a place and a text; white space around a mark is its format's, not the text's."""
    pieces = text.split(MARK)
    for i, piece in enumerate(pieces):
        if i:
            yield None
        bare = piece if len(pieces) == 1 else piece.strip()
        if bare:
            yield bare


def _named_pictures(row: Mapping[str, Any]) -> list[Any]:
    if "image" in row and "images" in row:
        raise DataError("a row has 'image' or 'images', not both")
    value = row.get("images", row.get("image"))
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _picture(value: object, folder: Path) -> Image:
    if isinstance(value, dict):  # {"url": …} of OpenAI, {"path": …, "bytes": null} of datasets
        value = value.get("url") or value.get("path")
    if not isinstance(value, str) or not value:
        raise DataError("a picture should be a path or a data: URL")
    if value.startswith("data:"):
        return Image(make=partial(bytes, _decoded(value)))
    if "://" in value and not value.startswith("file://"):
        raise DataError(f"picture {value!r} is on the network; download it and name the file")
    return Image(folder / value.removeprefix("file://"))


def _decoded(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError("a data: URL should be base64, as in data:image/png;base64,…")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DataError(f"a data: URL is not valid base64 ({error})") from error


def _choice(row: Mapping[str, Any], key: str, kind: type[Choice], default: Choice) -> Choice:
    value = row.get(key)
    if value is None:
        return default
    try:
        return kind(value)
    except ValueError:
        known = [str(member) for member in kind]
        raise DataError(f"no {key} {value!r}.{nearest(str(value), known)} Known: {', '.join(known)}") from None


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{key!r} should be a text, is a {type(value).__name__}")
    return value or ""


def _meta(row: Mapping[str, Any]) -> dict[str, str]:
    """Keys that are not ours, as text. One that looks like a misspelling of ours is refused."""
    meta: dict[str, str] = {}
    for key in row.keys() - set(KNOWN):
        close = difflib.get_close_matches(key, set(KNOWN) - row.keys(), n=1, cutoff=0.8)
        if close:
            raise DataError(f"unknown key {key!r}. Did you mean {close[0]!r}?")
        meta[key] = row[key] if isinstance(row[key], str) else json.dumps(row[key])
    return dict(sorted(meta.items()))
