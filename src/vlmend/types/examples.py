"""What a model is asked: pictures, turns, examples and preferences, and the hash that everything is joined by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from vlmend import rgb
from vlmend.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


class Expected(StrEnum):
    """What a well-behaved model does with an example."""

    ANSWER = "answer"
    REFUSE = "refuse"
    REASON = "reason"  # name the danger and decline or redirect, as in MIRage


class Role(StrEnum):
    """What an example is for when it is trained on."""

    SAFETY = "safety"
    UTILITY = "utility"
    FORGET = "forget"
    RETAIN = "retain"
    DECOUPLE = "decouple"


Side = Literal["safe", "unsafe", ""]


class Cell(NamedTuple):
    """Whether the picture alone, the words alone, and both together are safe; empty where a data set does not say."""

    picture: Side
    text: Side
    both: Side


@dataclass(frozen=True)
class Image:
    """A picture: a file, or a function that makes the file's bytes on demand. Identified by the hash of its bytes.

    `recorded` is the hash the bytes had when the picture was shown to somebody, where that is known: other bytes in its
    place are another picture, and are not read.
    One of more than `max_pixels` by its header is refused before it is decoded; the limit is no part of what it is.
    `drawn`: by this package, so that nobody needs to find out whether it is a picture.
    """

    path: Path | None = None
    make: Callable[[], bytes] | None = field(default=None, repr=False)
    recorded: str = field(default="", repr=False, compare=False)
    max_pixels: int = field(default=rgb.MAX_PIXELS, compare=False, repr=False)
    drawn: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.make is None):
            raise ValueError("an Image has either a path or a function that makes it")

    def read(self) -> bytes:
        """The bytes of the file. Raises DataError when it is missing, empty, or not the picture that was recorded."""
        data = self._bytes()
        if self.recorded and (found := hashlib.sha256(data).hexdigest()) != self.recorded:
            raise DataError(
                f"image {self.path or self.recorded[:12]} is not the picture that was shown: its bytes have changed"
                f" since (sha256 {self.recorded[:12]} then, {found[:12]} now)"
            )
        return data

    def _bytes(self) -> bytes:
        if self.make is not None:
            return self.make()
        assert self.path is not None
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"image {self.path} cannot be read: {error.strerror}") from error
        if not data:
            raise DataError(f"image {self.path} is empty (0 bytes)")
        return data

    @cached_property
    def sha256(self) -> str:
        """Hash of the bytes, in hex."""
        return hashlib.sha256(self.read()).hexdigest()

    @property
    def name(self) -> str:
        """The file, or the beginning of the hash of a picture that has none."""
        return str(self.path or self.sha256[:12])

    @property
    def header(self) -> rgb.Header:
        """What the file's header says. Raises DataError when it is no picture's, or promises too many pixels."""
        as_is = self.path if self.path and not self.recorded else None
        if as_is and (not as_is.is_file() or not as_is.stat().st_size):
            self.read()  # which says what is wrong
        try:
            return rgb.header(as_is or self.read(), self.max_pixels)
        except rgb.BadPicture as error:
            raise error.of(self.name) from error

    @property
    def size(self) -> tuple[int, int]:
        """Width and height by the file's header, before any rotation. Raises DataError as `header` does."""
        return self.header.size

    def seen(self) -> rgb.Seen:
        """The decoded picture, and what had to be done to it to show it. Raises DataError when that cannot be done."""
        try:
            return rgb.decode(self.read(), self.max_pixels)
        except rgb.BadPicture as error:
            raise error.of(self.name) from error

    def open(self) -> Picture:
        """The decoded picture in RGB as everyone sees it (`vlmend.rgb`). Raises DataError when it cannot be shown."""
        return self.seen().picture


Part = str | Image

Speaker = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn: text and images in the order they are shown.

    `supervised` matters for turns of the assistant: tuning learns them unless it is False.
    """

    role: Speaker
    parts: tuple[Part, ...]
    supervised: bool = True

    @property
    def text(self) -> str:
        """All text parts, joined by a newline."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in order."""
        return tuple(part for part in self.parts if isinstance(part, Image))

    def with_text(self, text: str) -> Message:
        """The same turn with its text replaced: the first text part takes it, further ones go."""
        parts: list[Part] = []
        placed = False
        for part in self.parts:
            if isinstance(part, Image):
                parts.append(part)
            elif not placed:
                parts.append(text)
                placed = True
        return replace(self, parts=tuple(parts) if placed else (*parts, text))


@dataclass(frozen=True)
class Example:
    """Something to ask a model, and what is known about the right reaction.

    `prompt` ends with a user turn. `answers` are reference answers, the first of which is the target in tuning. `avoid`
    holds answers that people did not want (unpaired feedback: `label: false`): they are no references, and a method
    that does not say that it learns from such feedback never sees them. `reasoning` is what is said to oneself before
    the first answer, without the marks around it: tuning may learn it, and judges never compare with it.
    Examples that share a picture (or another reason not to be independent) share a `cluster`.
    """

    id: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...] = ()
    expected: Expected = Expected.ANSWER
    subset: str = ""
    category: str = ""
    subcategory: str = ""
    cluster: str = ""
    role: Role = Role.SAFETY
    source: str = ""
    meta: Mapping[str, str] = field(default_factory=dict[str, str])
    avoid: tuple[str, ...] = ()
    reasoning: str = ""

    @property
    def images(self) -> tuple[Image, ...]:
        """Every image of the prompt, in order."""
        return tuple(image for message in self.prompt for image in message.images)

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        return self.prompt[-1].text

    @property
    def origin(self) -> str:
        """Id of the example this is a variant of, as some attacks make them; its own id where it is none."""
        return self.meta.get("variant_of", self.id)

    @property
    def request(self) -> str:
        """What all shots of one request have in common: those of a data set that asks it in several ways, and variants
        that attacks made. Of an example that stands alone, its id.
        """
        return self.meta.get("shot_of", self.origin)


@dataclass(frozen=True)
class Pair:
    """A preference: one prompt, a chosen and a rejected answer; `rejected_images` when the rejected side saw others.

    Pairs that share a picture (or another reason not to be independent) share a `cluster`.
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    rejected_images: tuple[Image, ...] | None = None
    subset: str = ""
    category: str = ""
    subcategory: str = ""
    cluster: str = ""
    role: Role = Role.SAFETY
    source: str = ""
    meta: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def images(self) -> tuple[Image, ...]:
        """Every image of the prompt, in order, then those that only the rejected side saw."""
        shown = tuple(image for message in self.prompt for image in message.images)
        return shown + (self.rejected_images or ())

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        return self.prompt[-1].text


T = TypeVar("T", bound=Example | Pair)


def map_images(item: T, change: Callable[[Image], Image]) -> T:
    """The example or pair with every picture changed, wherever it is shown."""
    prompt = tuple(
        replace(m, parts=tuple(change(part) if isinstance(part, Image) else part for part in m.parts))
        for m in item.prompt
    )
    if isinstance(item, Pair) and item.rejected_images is not None:
        return replace(item, prompt=prompt, rejected_images=tuple(map(change, item.rejected_images)))
    return replace(item, prompt=prompt)


def digest(*parts: object) -> str:
    """A stable hash (32 hex digits) of JSON-serialisable parts: the identity everything is joined by."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, which a command line can hold, is a text like any other here.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def content_of(messages: Iterable[Message]) -> str:
    """Hash of what a conversation says and shows, whatever its id: texts, and pictures by the hash of their bytes.

    A picture that cannot be read counts as such: two conversations that lack one are alike in that.
    """
    return digest([[m.role, *(_shown(p) if isinstance(p, Image) else p for p in m.parts)] for m in messages])


def _shown(image: Image) -> list[str]:
    try:
        return ["image", image.recorded or image.sha256]
    except DataError:
        return ["image", "unreadable"]


def conversation_key(messages: Iterable[Message]) -> list[list[str | list[str]]]:
    """A conversation as shown, as hashable JSON: texts as they are, images by content hash."""
    return [[m.role, *([p.sha256, "image"] if isinstance(p, Image) else p for p in m.parts)] for m in messages]
