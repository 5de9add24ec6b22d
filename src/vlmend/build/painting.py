"""Pictures made by an image generator: what is asked of it, and a folder in which nothing is painted twice.

A painter behind the protocol may be anything. Ours asks a server that speaks OpenAI's image interface, with the keys,
the budget, the pace and the second tries of every other server that this package asks.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from vlmend.build.picture import kept
from vlmend.data.export.album import UNKNOWN, kind_of
from vlmend.errors import ConfigError, ModelError
from vlmend.servers.address import Address, Connections, check_variable, extra_of, key_of
from vlmend.servers.chat import Answer, Reply, Unreadable, error_text
from vlmend.servers.exchange import Exchange, Rules
from vlmend.servers.ledger import Account
from vlmend.servers.outcome import Answered, Outcome, Refused, post
from vlmend.store import Journal, read_rows
from vlmend.types import Finish, Image, Message, digest

MOST_TOKENS = 8_192  # that one picture is charged as, by servers that count tokens
HARMLESS = "A gray square."
OURS = ("model", "prompt", "n", "seed")  # keys of a request that `extra` may not hold


@dataclass(frozen=True)
class Sketch:
    """What is to be painted; another seed may give another picture."""

    prompt: str
    seed: int = 0


@dataclass(frozen=True)
class Painted:
    """What became of a sketch: the file's bytes, or why there are none. `final`: asking again would not help."""

    sketch: Sketch
    data: bytes = b""
    why: str = ""
    final: bool = False


class Painter(Protocol):
    """An image generator. Its fingerprint changes with everything that could change a picture."""

    @property
    def fingerprint(self) -> str: ...

    def paint(self, sketches: Iterable[Sketch]) -> Iterator[Painted]:
        """What becomes of each, as it comes. Raises ModelError when nothing can be painted at all."""
        ...


@dataclass(frozen=True)
class OpenaiPainter:
    """`NAME@URL`, or `NAME` for the OpenAI API: `POST URL/images/generations`, one picture a request.

    `size` is as the server calls it (empty: its own), `extra` a JSON object that is added to every request, which may
    ask for `response_format`. Whether a server heeds the seed is its own affair; the OpenAI API is not sent one. Other
    settings are those of the backend `openai`.
    """

    model: str
    size: str = ""
    extra: str = ""
    key_env: str = ""
    window: int = 8
    timeout: float = 300.0
    retries: int = 5
    patience: float = 300.0
    backoff: float = 0.5
    budget: str = ""
    prices: Path | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or min(self.timeout, self.backoff) <= 0 or min(self.retries, self.patience) < 0:
            raise ConfigError("a painter's window is at least 1, timeout and backoff more than 0, the rest at least 0")
        check_variable(self.key_env)
        _ = self._address, self._extra

    @cached_property
    def _address(self) -> Address:
        return Address.parse(self.model)

    @cached_property
    def _extra(self) -> dict[str, Any]:
        return extra_of(self.extra, OURS)

    @cached_property
    def account(self) -> Account:
        """What was spent, and what may be."""
        return Account.opened(f"openai:{self.model}", self.budget, self.prices)

    @property
    def fingerprint(self) -> str:
        """Name, address, size and what is added."""
        return digest("painter", self._address.name, self._address.url, self.size, self._extra)

    def paint(self, sketches: Iterable[Sketch]) -> Iterator[Painted]:
        """What becomes of each, as it comes. Raises ModelError when nothing can be painted, UsageError of a budget."""
        key = key_of(self._address, self.key_env)
        connection = Connections(self._address, key, self.timeout)

        async def ask(job: _Job) -> Outcome:
            body = json.dumps(self._body(job.sketch)).encode()
            url = f"{self._address.url}/images/generations"
            found = await post(connection, url, body, self.timeout, read=_read)
            if isinstance(found, Answered) or not key:
                return found
            return replace(found, why=found.why.replace(key, "[key]"))

        async def harmless(job: _Job) -> Outcome | None:
            del job
            return await self.account.trial(_Job(Sketch(HARMLESS)), ask)

        rules = Rules(self.window, self.retries, self.patience, self.backoff)
        jobs = (_Job(sketch) for sketch in sketches)
        spent = self.account.spent
        try:
            for job, found in Exchange(connection, jobs, ask, rules, self.account, control=harmless, spent=spent):
                yield _painted(job.sketch, found)
        except ModelError as error:
            raise ModelError(f"{self._address.name} at {self._address.url}: {error}") from error

    def _body(self, sketch: Sketch) -> Mapping[str, Any]:
        seed = {} if self._address.url.startswith("https://api.openai.com") else {"seed": sketch.seed}
        size = {"size": self.size} if self.size else {}
        return {"model": self._address.name, "prompt": sketch.prompt, "n": 1, **size, **seed, **self._extra}


@dataclass(eq=False)
class _Job:
    """A sketch as a ledger sees it."""

    sketch: Sketch
    longest: int = MOST_TOKENS

    @property
    def prompt(self) -> tuple[Message, ...]:
        return (Message("user", (self.sketch.prompt,)),)


def painted(painter: Painter, sketches: Iterable[Sketch], folder: Path) -> Iterator[tuple[Sketch, Image | str]]:
    """Each sketch with its picture, or with why there is none; what was painted before comes first and costs nothing.

    `folder` keeps the pictures by content and a journal of which sketch became which. A refusal is kept as well; what
    failed otherwise is asked for again the next time.
    """
    journal = folder / "painted.jsonl"
    known = {str(row["sketch"]): row for row in read_rows(journal)}
    missing: list[Sketch] = []
    for sketch in sketches:
        row = known.get(_key(painter, sketch))
        file = folder / str(row["file"]) if row and row["file"] else None
        if file and file.is_file():
            yield sketch, Image(file, recorded=file.stem)
        elif row and not row["file"]:
            yield sketch, str(row["why"])
        else:
            missing.append(sketch)
    if not missing:
        return
    with Journal(journal) as log:
        for result in painter.paint(missing):
            key = _key(painter, result.sketch)
            told = {"sketch": key, "prompt": result.sketch.prompt, "seed": result.sketch.seed, "why": result.why}
            if not result.data:
                if result.final:
                    log.append({**told, "file": ""})
                yield result.sketch, result.why
                continue
            if kind_of(result.data) == UNKNOWN:
                yield result.sketch, "what came back is no picture"
                continue
            image = kept(result.data, folder)
            log.append({**told, "file": f"{image.sha256}.{kind_of(result.data)[0]}"})
            yield result.sketch, image


def _key(painter: Painter, sketch: Sketch) -> str:
    return digest(painter.fingerprint, sketch.prompt, sketch.seed)


def _read(data: object) -> Reply:
    """A picture in a reply of the image interface, as base64 text. Raises Unreadable."""
    if not isinstance(data, dict):
        raise Unreadable("not a JSON object")
    if data.get("error"):
        raise Unreadable(f"an error with status 200: {error_text(data)}")
    try:
        row = data["data"][0]
        text = row.get("b64_json") or ""
        usage = data.get("usage") or {}
        read, written = int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
        if not text and row.get("url"):
            raise Unreadable('it names an address instead of a picture; ask with extra={"response_format":"b64_json"}')
        base64.b64decode(text, validate=True)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise Unreadable(f"a reply of an unknown shape ({type(error).__name__})") from error
    if not text:
        raise Unreadable("no picture in it")
    return Reply((Answer(text, Finish.STOP),), read, written)


def _painted(sketch: Sketch, found: Answered | Refused) -> Painted:
    if isinstance(found, Refused):
        return Painted(sketch, why=found.why, final=found.blocked)
    return Painted(sketch, base64.b64decode(found.reply.answers[0].text))


def lines_of(file: Path) -> list[str]:
    """The prompts in a file, one a line; empty lines are nobody's. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompts {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"prompts {file} holds no prompt, one a line")
    return lines
