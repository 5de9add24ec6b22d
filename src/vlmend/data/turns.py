"""Conversations as rows write them: who speaks, what is said, what of it is learned, and where the pictures stand.

A picture's place is an image block among content parts, or a mark in a text: `<image>`, or one of the many other ways
to write it where no `<image>` is there. Without either, pictures stand before the first question. In a list of parts
that has picture blocks, texts are texts to the letter.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from vlmend.errors import DataError, brief, nearest
from vlmend.reasoning import leading, written
from vlmend.types import Image, Message, Part, Speaker

MARK = "<image>"
SPEAKERS: dict[str, Speaker] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
LEARNED = ("loss", "weight", "train", "training", "train_on_turn", "supervised")  # ms-swift, OpenAI, axolotl, ours
REASONING = ("reasoning", "reasoning_content", "thinking")  # what the assistant said to itself, of a message or a row
NAMED = ("image_url", "image", "path", "url", "source", "data", "base64", "bytes", "image_path", "img", "file")
TEXTS, SHOWN = ("text", "input_text", "output_text"), ("image", "image_url", "input_image")
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")  # of picture files
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{60,}={0,2}\s*")
FILES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jfif", ".avif", ".heic", ".ppm")
# What stands for a picture in texts of the field, whole; the number is that of the picture.
PLACE = re.compile(
    r"<\|vision_start\|>(?:<\|image_pad\|>)*<\|vision_end\|>|<img>\s*<imagehere>\s*</img>"
    r"|<(\|?)(?:image|img|imagehere|image_pad|image_placeholder|image_soft_token)[ _]?(\d*)\1>|\[img\]",
    re.IGNORECASE,
)
TAGS = ("<img>", "[img]", "<video>", "<audio>")
MOVING = re.compile(r"<(\|?)(?:video|audio)(?:_pad|_\d+)?\1>", re.IGNORECASE)


class Tags(NamedTuple):
    """How the messages of a file name their parts, where it says so itself."""

    role: str = ""
    content: str = ""
    speakers: Mapping[str, Speaker] = {}


STANDARD = Tags()


@dataclass(frozen=True)
class Turn:
    """Who speaks, texts or content blocks, and whether the turn is learned; None where the row does not say."""

    speaker: Speaker
    blocks: tuple[Any, ...]
    learned: bool | None = None


def said(speaker: Speaker, text: str) -> Turn:
    """A turn of one text, in which marks are places."""
    return Turn(speaker, (text,))


def from_messages(messages: object, key: str, unread: Counter[str], tags: Tags = STANDARD) -> list[Turn]:
    """Turns of `{role, content}` or `{from, value}` messages. Raises DataError naming the row's key.

    Keys of a message that mean nothing here are counted in `unread`.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{key!r} should be a list of messages, and not empty")
    return [_turn(message, key, unread, tags) for message in cast("list[object]", messages)]


def _turn(message: object, key: str, unread: Counter[str], tags: Tags) -> Turn:
    if not isinstance(message, dict):
        raise DataError(f"a message in {key!r} needs 'role' and 'content', or 'from' and 'value'")
    told = cast("dict[str, Any]", message)
    if None in told.values():
        told = {name: value for name, value in told.items() if value is not None}
    for who, what in ((tags.role, tags.content), ("role", "content"), ("from", "value")):
        if who in told and what in told:
            break
    else:
        raise DataError(f"a message in {key!r} needs 'role' and 'content', or 'from' and 'value'")
    speaker = _speaker(told[who], tags)
    content = told[what]
    if not isinstance(content, str | list) or not content:
        raise DataError(f"{what!r} of a message should be a text or a list of parts, and not empty")
    blocks: list[Any] = content if isinstance(content, list) else [content]
    thought, blocks = _thought(told, blocks) if speaker == "assistant" else ("", blocks)
    blocks = _behind(thought, blocks) if thought else blocks
    if len(told) == 2:
        return Turn(speaker, tuple(blocks))
    for name in told.keys() - {who, what, *LEARNED, *(REASONING if thought else ())}:
        if told[name] not in ("", [], {}):
            unread[f"{name!r} of a message"] += 1
    return Turn(speaker, tuple(blocks), _learned(told, speaker))


def _thought(message: Mapping[str, Any], blocks: Sequence[Any]) -> tuple[str, list[Any]]:
    """What the assistant said to itself, under a key of the message or in blocks of its own, and the other blocks."""
    aside = [block for block in blocks if isinstance(block, dict) and block.get("type") in REASONING]
    told = [message, *({name: block.get(name, block.get("text")) for name in REASONING} for block in aside)]
    given = [text.strip() for each in told for name in REASONING if isinstance(text := each.get(name), str)]
    if len(set(filter(None, given))) > 1:
        raise DataError(
            f"a message says its reasoning twice and differently, under {' or '.join(map(repr, REASONING))}"
        )
    return next(filter(None, given), ""), [block for block in blocks if block not in aside]


def _behind(thought: str, blocks: Sequence[Any]) -> list[Any]:
    """Texts or blocks with a thought before the first text."""
    at = next((i for i, block in enumerate(blocks) if _text_of(block)), None)
    if at is None or leading(_text_of(blocks[at]))[0] not in ("", thought):
        raise DataError(
            "a message has reasoning and no text to follow it, or begins with another reasoning in its text"
        )
    said = written(thought, leading(_text_of(blocks[at]))[1])
    block = said if isinstance(blocks[at], str) else {**blocks[at], "text": said}
    return [*blocks[:at], block, *blocks[at + 1 :]]


def _speaker(value: object, tags: Tags) -> Speaker:
    name = value if isinstance(value, str) else ""
    speaker = tags.speakers.get(name) or SPEAKERS.get(name.lower())
    if speaker is None:
        raise DataError(f"no speaker {brief(value)}.{nearest(str(value), SPEAKERS)}")
    return speaker


def _learned(message: Mapping[str, Any], speaker: Speaker) -> bool | None:
    """What the message says of being learned: all or nothing, under one of several names."""
    given = {name: _flag(name, message[name]) for name in LEARNED if name in message}
    if len(set(given.values())) > 1:
        raise DataError(f"{' and '.join(map(repr, given))} of a message say different things")
    learned = next(iter(given.values()), None)
    if learned and speaker != "assistant":
        raise DataError(
            f"{next(iter(given))!r} asks to learn a turn of the {speaker}; only the assistant's are learned"
        )
    return learned


def _flag(name: str, value: object) -> bool:
    if value not in (True, False):  # 1, 0, 1.0 and 0.0 are among them
        raise DataError(f"{name!r} of a message should be true or false, or 1 or 0, is {brief(value)}")
    return bool(value)


def reply(value: object, key: str, unread: Counter[str], *, implicit: bool, tags: Tags = STANDARD) -> str:
    """The answer of one side of a pair: a text, a message, or a list whose last (unless `implicit`: only) one it is."""
    if isinstance(value, str):
        text = value
    else:
        turns = from_messages([value] if isinstance(value, dict) else value, key, unread, tags)
        if turns[-1].speaker != "assistant" or (len(turns) > 1 and not implicit):
            raise DataError(f"{key!r} should be one answer of the assistant")
        if turns[-1].learned is False:
            raise DataError(f"{key!r} is marked as not to be learned; a side of a pair always is")
        text = words(turns[-1], key)
    if not text.strip():
        raise DataError(f"{key!r} is empty")
    return text


def words(turn: Turn, key: str) -> str:
    """A turn's text. Raises DataError where it holds a picture."""
    parts = [part for block in turn.blocks for part in _parts(block, Path(), Counter(), None)]
    if not all(isinstance(part, str) for part in parts):
        raise DataError(f"{key!r} holds a picture; answers are texts")
    return "\n".join(str(part) for part in parts)


def with_pictures(
    turns: Sequence[Turn], named: Sequence[Image], folder: Path, unread: Counter[str], *, literal: bool
) -> list[Message]:
    """Messages with each named picture at its place, in order. Raises DataError when places and pictures differ.

    A picture that stands in the turns and is named by the row as well is shown once. With `literal`, marks in texts
    are texts.
    """
    blocks = any(isinstance(block, dict) and _is_picture(block) for turn in turns for block in turn.blocks)
    inline = list(_inline(turns, folder)) if named and blocks else []
    left = [image for image in named if not any(same(image, other) for other in inline)]
    places = None if literal or not left else _Places.of(turns, in_blocks=not blocks)
    messages: list[Message] = []
    count = 0
    for turn in turns:
        parts: list[Part] = []
        marked = places.of_turn(turn) if places else None
        for part in (part for block in turn.blocks for part in _parts(block, folder, unread, marked)):
            if not isinstance(part, int):
                parts.append(part)
                continue
            at = part - 1 if part else count
            count += 1
            if part > len(left):
                raise DataError(f"the text shows picture {part} and the row names {len(left)}")
            parts += left[at : at + 1]
        messages.append(Message(turn.speaker, tuple(parts), turn.learned is not False))
    if count == 0 and left and not inline:
        first = next((i for i, message in enumerate(messages) if message.role == "user"), 0)
        messages[first] = replace(messages[first], parts=(*left, *messages[first].parts))
    elif count != len(left):
        besides = f", {len(inline)} more stand inside it" if inline else ""
        raise DataError(f"the text has {count} places for pictures and the row names {len(left)}{besides}")
    return messages


def refuse_marks(turns: Iterable[Turn]) -> None:
    """Raise DataError for a mark in a text of a conversation that has no picture.

    An answer may speak of the tags of a web page, which look like some marks.
    """
    for turn in turns:
        for text in map(_text_of, turn.blocks):
            marks = [*PLACE.finditer(text), *MOVING.finditer(text)]
            mark = next((m for m in marks if turn.speaker != "assistant" or m[0].lower() not in TAGS), None)
            if mark:
                raise DataError(
                    f"the text has 1 places for pictures and the row names 0: it holds {brief(mark[0])} "
                    "(?placeholders=text reads such marks as text)"
                )


def _text_of(block: object) -> str:
    if isinstance(block, dict):
        block = cast("dict[str, object]", block).get("text")
    return block if isinstance(block, str) else ""


def _is_picture(block: object) -> bool:
    return isinstance(block, dict) and cast("dict[str, object]", block).get("type") in SHOWN


def _inline(turns: Iterable[Turn], folder: Path) -> Iterator[Image]:
    for block in (block for turn in turns for block in turn.blocks if _is_picture(block)):
        image = _held(block, folder)
        if image is not None:
            yield image


def _held(block: Mapping[str, Any], folder: Path) -> Image | None:
    value = next((block[key] for key in NAMED if block.get(key)), None)
    return None if value is None else picture(value, folder)


def same(one: Image, other: Image) -> bool:
    """Whether two pictures are one, by name where both are files, else by content."""
    if one.path is not None and other.path is not None:
        return one.path == other.path
    try:
        return one.sha256 == other.sha256
    except DataError:  # a file that is not there: its own error comes where pictures are looked at
        return False


@dataclass(frozen=True)
class _Places:
    """Which marks of a row are places for its pictures: one spelling of them, in texts of blocks as well or not."""

    spelling: str
    in_blocks: bool

    @classmethod
    def of(cls, turns: Sequence[Turn], *, in_blocks: bool) -> _Places:
        """`<image>` where it stands in the row, else the first other mark of a user; nothing else is a place then."""
        read = [(turn, block) for turn in turns for block in turn.blocks if isinstance(block, str) or in_blocks]
        marks = [(turn, match) for turn, block in read for match in PLACE.finditer(_text_of(block))]
        found = [_spelling(match) for turn, match in marks if turn.speaker == "user" or _spelling(match) == MARK]
        spelling = MARK if MARK in found else next(iter(found), MARK)
        numbers = [match[2] for _, match in marks if match[2] and _spelling(match) == spelling]
        if len(set(numbers)) < len(numbers):
            raise DataError("the text shows one picture at several places; such rows cannot be read")
        return cls(spelling, in_blocks)

    def of_turn(self, turn: Turn) -> _Places | None:
        """The places that count in a turn: a system's blocks, and what looks like a mark in an answer, are text."""
        if turn.speaker != "user" and self.spelling != MARK:
            return None
        return replace(self, in_blocks=False) if self.in_blocks and turn.speaker == "system" else self

    def apart(self, text: str) -> Iterator[int | str]:
        """`<image>\\nWhat is it?` to a place and a text; white space around a mark is its format's, not the text's.

        A place is the number that its mark gives the picture, from 1, or 0.
        """
        marks = [match for match in PLACE.finditer(text) if _spelling(match) == self.spelling]
        if not marks:
            yield from (text,) if text else ()
            return
        end = 0
        for match in marks:
            if piece := text[end : match.start()].strip():
                yield piece
            yield int(match[2] or 0)
            end = match.end()
        if piece := text[end:].strip():
            yield piece


def _spelling(match: re.Match[str]) -> str:
    return re.sub(r"\d+", "", match[0]).lower()


def marks_apart(text: str) -> Iterator[int | str]:
    """The parts that a text with `<image>` marks reads as, each mark a 0."""
    return _Places(MARK, in_blocks=False).apart(text)


def _parts(block: object, folder: Path, unread: Counter[str], places: _Places | None) -> Iterator[Image | int | str]:
    """The parts of a text or content block; a number is a place for a picture of the row (0: for the next one)."""
    if isinstance(block, str):
        yield from places.apart(block) if places else (block,)
        return
    told = cast("dict[str, Any]", block) if isinstance(block, dict) else {}
    kind = told.get("type")
    if kind not in (*TEXTS, *SHOWN):
        raise DataError(
            f"a content part should be a text, or an object of type text, image or image_url; got {brief(kind)}"
        )
    if kind in TEXTS:
        if not isinstance(told.get("text"), str):
            raise DataError("a content part of type text needs 'text'")
        yield from places.apart(told["text"]) if places and places.in_blocks else (told["text"],)
    else:
        inline = _held(told, folder)
        yield 0 if inline is None else inline
    for key in (key for key, value in told.items() if value and key not in ("type", "text", *NAMED)):
        if kind in SHOWN and looks_like_picture(told[key]):
            raise DataError(f"a content part of type {kind} has its picture in {key!r}; write it as 'image'")
        unread[f"{key!r} of a content part"] += 1


def picture(value: object, folder: Path) -> Image:
    """A path, a data: URL, base64, bytes, or an object that holds one: OpenAI's `{url}`, datasets' `{bytes, path}`."""
    if isinstance(value, dict):
        held = cast("dict[str, object]", value)
        value = next(
            (held[key] for key in ("bytes", "url", "path", "data", "base64", "b64_json") if held.get(key)), None
        )
    if isinstance(value, bytes) and value:
        return Image(make=partial(bytes, value))
    if not isinstance(value, str) or not value.strip():
        raise DataError("a picture should be a path, a data: URL or bytes, and not empty")
    if value.startswith("data:"):
        return Image(make=partial(bytes, _decoded(value)))
    inside = _from_base64(value)
    if inside is not None:
        return Image(make=partial(bytes, inside))
    if "://" in value and not value.startswith("file://"):
        raise DataError(f"picture {brief(value)} is on the network; download it and name the file")
    if "\0" in value or (len(value) > 60 and any(len(part.encode()) > 255 for part in value.split("/"))):
        raise DataError(f"picture {brief(value)} is no path, no data: URL and no picture as base64")
    return Image(folder / value.removeprefix("file://"))


def looks_like_picture(value: object) -> bool:
    """Whether a value of a row can hardly be anything but a picture, or several."""
    if isinstance(value, list):
        each = cast("list[object]", value)
        return bool(each) and all(map(looks_like_picture, each))
    if isinstance(value, dict):
        held = cast("dict[str, object]", value)
        return held.keys() <= {"bytes", "path", "url"} and any(map(looks_like_picture, held.values()))
    if isinstance(value, bytes):
        return value.startswith(STARTS)
    if not isinstance(value, str):
        return False
    bare = value.partition("?")[0].lower().strip()
    named = bare.endswith(FILES) and "\n" not in bare and (len(bare.split()) == 1 or "/" in bare)
    return named or value.startswith("data:image/") or _from_base64(value) is not None


def _from_base64(text: str) -> bytes | None:
    """The picture that a text is as base64, or None: it has to decode to the beginning of a picture."""
    if len(text) < 60 or not BASE64.fullmatch(text):
        return None
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None
    return data if data.startswith(STARTS) else None


def _decoded(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError("a data: URL should be base64, as in data:image/png;base64,…")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DataError(f"a data: URL is not valid base64 ({error})") from error
