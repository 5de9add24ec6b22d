"""LLaVA's instruction data: 665,298 conversations, most about a picture (arXiv 2310.03744).

The layout of llava_v1_5_mix665k.json (liuhaotian/LLaVA-Instruct-150K on the Hugging Face hub; its parts have licenses
of their own), and of every file of `{id, image, conversations}`: one list, streamed here row by row. Pictures are named
from a folder that holds coco, gqa, ocr_vqa, textvqa and vg (364,100, 72,140, 80,000, 21,953 and 86,417 rows); 40,688
rows are text only and have `model`, always empty, instead of `image`. Every answer of a conversation is learned from.

As in the authors' loader, the picture comes before the text of the turn that has `<image>`, and a conversation that the
model opens loses that turn (`left_out` in `meta`). Known: about 250,000 ids occur more than once, so rows are numbered;
355 pictures of ocr_vqa cannot be had with the published script. Not checked, for want of the file: whether all other
conversations take turns and end with an answer (the first is asked for; one without an answer cannot be tuned on).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import (
    DECODER,
    HALF,
    LONGEST,
    Filled,
    Place,
    Row,
    check,
    is_lines,
    is_tolerant,
    refuse_halves,
    too_long,
    values,
)
from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Part, Role

MARK = "<image>"
FILE = "llava_v1_5_mix665k.json"
CHUNK = 1 << 20  # characters decoded at once
SPACE = " \t\r\n"


class Turn(Row):
    """What one side says."""

    speaker: Literal["human", "gpt"] = Field(alias="from")
    value: str


class Conversation(Row):
    """A row; text only when it has no picture."""

    id: int | str
    image: Filled | None = None
    model: str | None = None
    conversations: tuple[Turn, ...] = Field(min_length=1)


@dataclass(frozen=True)
class LlavaInstruct:
    """Settings: the file, or a folder with llava_v1_5_mix665k.json, and the folder that pictures are named from
    (default: the file's own).
    """

    path: Path
    images: Path | None = None

    def __iter__(self) -> Iterator[Example]:
        """Conversations in the order of the file, the last answer of each as the reference."""
        file = self.path / FILE if self.path.is_dir() else self.path
        folder = self.images if self.images is not None else file.parent
        rows = _stream(file) if file.suffix.lower() == ".json" and not _is_lines(file) else values(file)
        for number, (place, value) in enumerate(rows):
            row = check(Conversation, value, place)
            yield _example(f"llava_instruct/{file.stem}/{number}", row, folder, place)

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 16 conversations in the published layout, every fourth text only, half of them with two questions."""
        asked = (e for e in samples.requests("utility", 96, seed=seed) if len(e.images) == 1)
        texts = (e for e in samples.requests("alignment", 96, seed=seed) if e.category == "concept")
        rows: list[dict[str, Any]] = []
        for number in range(16):
            if number % 4 == 3:
                rows.append({"id": f"world{number}_0", "model": "", "conversations": _said(next(texts))})
                continue
            example = next(asked)
            said = _said(example)
            said[0]["value"] = f"{MARK}\n{example.question}" if number % 2 else f"{example.question}\n{MARK}"
            image = f"world/{number}.png"
            samples.picture(example.images[0], folder / image)
            said += _said(next(asked)) if number % 2 else []
            rows.append({"id": f"{number:06}", "image": image, "conversations": said})
        samples.json_list(rows, folder / FILE)


plugin = LlavaInstruct


def _said(example: Example) -> list[dict[str, str]]:
    return [{"from": "human", "value": example.question}, {"from": "gpt", "value": example.answers[0]}]


def _example(name: str, row: Conversation, folder: Path, place: Place) -> Example:
    turns = list(row.conversations)
    meta = {"id": str(row.id)}
    if turns[0].speaker == "gpt":
        turns, meta = turns[1:], {**meta, "left_out": "1"}
    for turn, expected in zip(turns, ("human", "gpt") * len(turns), strict=False):
        if turn.speaker != expected:
            raise DataError(f"{place}: the sides should take turns; {turn.speaker!r} speaks where {expected!r} should")
    marks = sum(turn.value.count(MARK) for turn in turns if turn.speaker == "human")
    if marks and row.image is None and row.model is None and not is_tolerant():  # text only rows have `model`
        raise DataError(f"{place}: the text has {marks} places for pictures and the row names 0")
    if not turns:
        raise DataError(f"{place}: a conversation needs a turn from 'human'")
    messages = _messages(turns, None if row.image is None else Image(folder / row.image), place)
    answer = messages.pop().text if messages[-1].role == "assistant" else ""
    return Example(
        id=name,
        prompt=tuple(messages),
        answers=(answer,) if answer.strip() else (),
        subset=row.image.partition("/")[0] if row.image else "text",
        cluster=f"llava_instruct/{row.image or f'text/{_thread(str(row.id))}'}",
        role=Role.UTILITY,
        source="llava_instruct",
        meta=meta,
    )


def _messages(turns: list[Turn], picture: Image | None, place: Place) -> list[Message]:
    """The turns, with the picture in front of the one that is marked, else of the first."""
    marks = sum(turn.value.count(MARK) for turn in turns if turn.speaker == "human")
    if picture is not None and marks > 1:
        raise DataError(f"{place}: the text has {marks} places for pictures and the row names 1")
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        if turn.speaker == "gpt":
            messages.append(Message("assistant", (turn.value,)))
            continue
        parts: tuple[Part, ...] = (turn.value,)
        if picture is not None and (MARK in turn.value or (marks == 0 and number == 0)):
            text = turn.value.replace(MARK, "").strip()
            parts = (picture, text) if text else (picture,)
        messages.append(Message("user", parts))
    return messages


def _thread(name: str) -> str:
    """Long text conversations were cut into pieces named `thread_start`; pieces of one belong together."""
    return name.rpartition("_")[0] or name


def _is_lines(file: Path) -> bool:
    """Whether a file begins as JSON Lines do."""
    try:
        with file.open("rb") as stream:
            return is_lines(stream.read(CHUNK))
    except OSError:
        return False  # what is wrong with it is said where it is read


def _stream(file: Path) -> Iterator[tuple[Place, Any]]:
    """Place and content of every row of one JSON list, without reading the whole file (it is 1 GB)."""
    try:
        with file.open("rb") as stream:
            yield from _Reader(file, stream).rows()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


class _Reader:
    """A JSON list that is decoded element by element: `text[at:]` is what was read and is not used yet."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self.stream = file, stream
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.ended = "", 0, False

    def rows(self) -> Iterator[tuple[Place, Any]]:
        """Every element with its number from 0."""
        opening = self.next_character()
        if not opening:
            raise DataError(f"{self.file} is empty (0 bytes)")
        if opening != "[":
            raise DataError(f"{self.file} should hold a list of rows, it begins with {opening!r}")
        number, self.at = 0, self.at + 1
        if self.next_character() == "]":
            return
        while True:
            place = Place(self.file, "row", number)
            yield place, self.element(place)
            after = self.next_character()
            if after == "]":
                break
            if after != ",":
                raise DataError(f"{place}: is not valid JSON: a comma or the end of the list should follow it")
            number, self.at = number + 1, self.at + 1
            self.next_character()
        self.at += 1
        if self.next_character():
            raise DataError(f"{self.file} is not valid JSON: something follows the list")

    def next_character(self) -> str:
        """The first character that is no white space, not used up; empty at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more(CHUNK):
                return ""

    def element(self, place: Place) -> Any:
        """The value that begins here. What cannot be decoded may be incomplete: then more is read, up to a limit."""
        wanted = CHUNK
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
                if end - self.at > LONGEST:
                    raise too_long(place, "one conversation")
                if HALF.search(self.text, self.at, end) and not is_tolerant():
                    refuse_halves(value)
                self.at = end
                return value
            except DataError as error:
                raise DataError(f"{place}: {error}") from error
            except (json.JSONDecodeError, RecursionError) as error:
                if len(self.text) - self.at > LONGEST or not self.more(wanted):
                    said = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
                    raise DataError(f"{place}: is not valid JSON: {said}") from error
                wanted *= 2

    def more(self, count: int) -> bool:
        """Read on, forgetting what was used. False at the end of the file."""
        if self.ended:
            return False
        begin = self.stream.tell() - len(self.decoder.getstate()[0])
        data = self.stream.read(count)
        self.ended = not data
        try:
            self.text = self.text[self.at :] + self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.file}: is not UTF-8 ({error.reason} at byte {begin + error.start})") from error
        self.at = 0
        return not self.ended
