"""Rows in the field's common formats, as examples or pairs; the format is found from the rows.

    {"messages": [{"role", "content": str | parts}], "images": [path]}        TRL, ms-swift, LLaMA-Factory
    {"messages": [{"role", "content": [{"type": "image_url", …}]}]}           OpenAI; local paths and data: URLs only
    {"conversations": [{"from", "value"}], "image" | "images", "system"}      LLaVA, ShareGPT
    {"prompt": str | messages, "answer" | "completion" | "response" | "answers", "image" | "images"}
    {"instruction", "input", "output", "history", "system"}                   Alpaca; query, response of ms-swift
    {"index", "image": base64, "question", "A", "B", …, "answer"}             VLMEvalKit

A row with "chosen" and "rejected" (texts or messages), or "rejected_response", is a preference pair; its prompt has any
form above, or is what both conversations begin with. OpenAI's "input", "preferred_output" and
"non_preferred_output" are read, too. Rows of one set are either all examples or all pairs. `label: false` says that the
answer is one to avoid, `loss: false` or `weight: 0` that a turn is not learned. `reasoning` of a row or a message is
what is said to oneself before the answer; `<think>…</think>` before an answer is the same. `vlmend.data.keys` has
further names.

Optional in every row: id, expected, subset, category, subcategory, cluster, role, source, and for pairs
rejected_images. An object `meta` and all other keys are kept in `meta`; what is not understood is said once for a file.
A picture is a path, a data: URL, base64, or bytes as in parquet. Nothing is fetched: a picture at an http address is
refused, and so is a mark for a picture in a row that has none.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from vlmend.data import keys as meanings
from vlmend.data.notices import notice
from vlmend.data.rows import is_tolerant, kind_of, values
from vlmend.data.turns import (
    STANDARD,
    Tags,
    Turn,
    from_messages,
    looks_like_picture,
    refuse_marks,
    reply,
    said,
    with_pictures,
)
from vlmend.data.turns import picture as picture_of
from vlmend.errors import DataError, UnknownName, UsageError, brief, nearest
from vlmend.reasoning import leading
from vlmend.types import Example, Expected, Image, Message, Pair, Role

Item = TypeVar("Item", Example, Pair)
Choice = TypeVar("Choice", Expected, Role)
SHAPES = ("messages", "conversations", "prompt")
ANSWERS = ("answer", "completion", "response")
PAIR = ("chosen", "rejected", "rejected_images")
NOTED = ("expected", "chosen_harmful", "rejected_harmful")  # kept with a pair, and read by rewards and cost models
PICTURES = ("image", "images")
LABELS = ("id", "subset", "category", "subcategory", "cluster", "role", "source", "meta")
PARTS = "vlmend_parts"  # the turns' parts to the letter, where a text with marks cannot say them
SHARED = frozenset((*PICTURES, *LABELS, "system", "history", PARTS))
TOLD = frozenset((*ANSWERS, "answers", "expected", "reasoning"))
KNOWN = frozenset((*SHAPES, *PAIR, "input", "label", *SHARED, *TOLD, *meanings.SAME))
TABLES = (".csv", ".tsv")
UNLEARNED = "turns of the assistant in 'prompt' are shown and not learned (\"loss\": true in a turn learns it)"
CUT = 'turns behind the last one that is learned ("loss": false) are left out'

Line = tuple[object, Any, Path]  # place, content and the folder that its pictures are named from


@dataclass(frozen=True)
class Options:
    """How rows are read: what they are named after, where ids come from, the role of rows to be answered that name
    none, which of their keys mean which of ours (`question:prompt,img:image`), and whether marks such as `<image>` are
    places for pictures or nothing but text.

    A key mapped to nothing (`debug:`) is left out; one mapped to itself is kept in `meta` whatever it looks like.
    """

    name: str
    ids: Literal["given", "row"] = "given"
    role: Role = Role.UTILITY
    map: str = ""
    placeholders: Literal["places", "text"] = "places"
    tags: Tags = STANDARD
    keys: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", parse_map(self.map))

    @cached_property
    def kept(self) -> frozenset[str]:
        """Keys that are meant as they stand."""
        return frozenset(key for key, name in self.keys.items() if key == name)


def parse_map(text: str) -> dict[str, str]:
    """`question:prompt,img:image` as keys with what they mean. Raises UsageError."""
    keys: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        key, colon, name = item.rpartition(":")
        if not colon or not key:
            raise UsageError(f"map {item!r} should be KEY:FIELD, as in question:prompt")
        if name and name != key and name not in KNOWN:
            raise UnknownName("field to map to", name, KNOWN)
        keys[key] = name
    return keys


def rows_of(file: Path, folder: Path | None = None) -> Iterator[Line]:
    """The rows of a file, pictures named from `folder` (default: the file's own). An empty cell of a table is none."""
    root = file.parent if folder is None else folder
    if kind_of(file) not in TABLES:
        for place, value in values(file):
            yield place, value, root
        return
    shown: dict[str, str] = {}
    for place, cells in values(file):
        row: dict[str, Any] = {key: cell for key, cell in cells.items() if cell != ""}
        if "index" in row and "image" in row:  # VLMEvalKit: a picture may stand in an earlier row, and be named by it
            named = str(row["image"])
            row["image"] = shown.setdefault(row["index"], shown.get(named, named))
        yield place, {key: _several(cell) for key, cell in row.items()}, root


def _several(cell: str) -> Any:
    """The pictures of a cell that lists some, as tables can only do in writing."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return cell
    try:
        held: object = json.loads(cell.replace("'", '"'))
    except ValueError:
        return cell
    return held if looks_like_picture(held) else cell


@dataclass
class Heard:
    """What there is to say of a file: keys that were not understood, and remarks, with how many rows they are about."""

    rows: int = 0
    unread: Counter[str] = field(default_factory=Counter[str])
    remarks: Counter[str] = field(default_factory=Counter[str])

    def say(self, about: object, *, whole: bool) -> None:
        """Say it, if there is anything to say."""
        rows = f"of {'' if whole else 'the first '}{self.rows:,} row{'s' * (self.rows != 1)}"
        if self.unread:
            names = ", ".join(f"{name} ({count:,})" for name, count in sorted(self.unread.items()))
            notice(about, f"{rows}, these keys are not understood and change nothing: {names}")
        for remark, count in sorted(self.remarks.items()):
            notice(about, f"{rows}, {count:,}: {remark}")


def items(rows: Iterable[Line], options: Options) -> Iterator[Example | Pair]:
    """One example or pair per row, in order; the first bad row raises DataError that begins with its place.

    What a file says that is not understood is said on stderr when it was read.
    """
    heard: dict[object, Heard] = {}
    whole = False
    try:
        yield from _items(rows, options, heard)
        whole = True
    except DataError:
        heard.clear()  # what is wrong is said alone
        raise
    finally:
        for about, each in heard.items():
            each.say(about, whole=whole)


def _items(rows: Iterable[Line], options: Options, heard: dict[object, Heard]) -> Iterator[Example | Pair]:
    seen: set[str] = set()
    unmet = set(options.keys)
    last: set[str] = set()
    shape = ""
    file, told, said_of = None, options, Heard()
    for number, (place, value, folder) in enumerate(rows):
        if file is None or getattr(place, "file", file) is not file:
            file = getattr(place, "file", options.name)
            told, said_of = _told_beside(file, options), heard.setdefault(file, Heard())
        said_of.rows += 1
        try:
            row = _renamed(value, told)
            if unmet:
                last = set(value)
                unmet -= last
            shape = _same(_shape(row), shape)
            name = _name(row, options, number, seen)
            if options.ids == "row" and "id" in row:
                row["given_id"] = row.pop("id")
            read = _Reader(row, frozenset(value) - options.keys.keys(), shape, folder, told, said_of)
            yield read.pair(name) if shape == "chosen" else read.example(name)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
    if unmet and last:
        key = min(unmet)
        raise DataError(f"map names the key {key!r}, which no row of {options.name} has.{nearest(key, last)}")


def _told_beside(file: object, options: Options) -> Options:
    """The options with what a dataset_info.json beside the file says of its columns; what the user says comes first."""
    about = meanings.beside(file) if isinstance(file, Path) else None
    if about is None:
        return options
    notice(file, f"read by the columns and tags that {about.name!r} has in the dataset_info.json beside it")
    told = replace(options, tags=about.tags)
    object.__setattr__(told, "keys", {**about.keys, **options.keys})
    return told


def _renamed(value: object, options: Options) -> dict[str, Any]:
    """The row with our names for its keys. What is null is not there; several pictures make a list."""
    if not isinstance(value, dict):
        raise DataError(f"should be an object, is a {type(value).__name__}")
    row = {key: cell for key, cell in cast("dict[str, Any]", value).items() if cell is not None}
    keys = options.keys
    renamed = {key: cell for key, cell in row.items() if key not in keys}
    for key, name in keys.items():
        if key not in row or not name:
            continue
        if name in renamed and name not in PICTURES:
            raise DataError(f"{key!r} is mapped to {name!r}, which the row has already")
        renamed[name] = _listed(renamed[name]) + _listed(row[key]) if name in renamed else row[key]
    return meanings.ours(renamed, options.kept)


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _shape(row: Mapping[str, Any]) -> str:
    if "chosen" in row or "rejected" in row:
        return "chosen"
    for key in SHAPES:
        if key in row:
            return key
    raise DataError(
        f"a row needs 'messages', 'conversations' or 'prompt'; this one has {', '.join(map(repr, row)) or 'no keys'} "
        "(?map=KEY:prompt says what a key means)"
    )


def _same(found: str, before: str) -> str:
    if before and found != before:
        mixed = "; a file holds preference pairs or examples, never both" if "chosen" in (found, before) else ""
        raise DataError(f"this row has {found!r}, the rows before it have {before!r}{mixed}")
    return found


def _name(row: Mapping[str, Any], options: Options, number: int, seen: set[str]) -> str:
    if options.ids == "row" or "id" not in row:
        return f"{options.name}/{number}"
    name = _text(row, "id")
    if not name:
        raise DataError("'id' is empty")
    if name in seen:
        raise DataError(f"id {brief(name)} was used before; make ids unique, or read with ?ids=row")
    seen.add(name)
    return name


@dataclass(frozen=True)
class _Reader:
    """One row with our names for its keys (`written`: the file's that `map` leaves), and what it takes to read it."""

    row: dict[str, Any]
    written: frozenset[str]
    shape: str
    folder: Path
    options: Options
    heard: Heard

    def example(self, name: str) -> Example:
        """The row as an example."""
        row = self.row
        turns = self._learned(self._turns(self.shape))
        messages = self._conversation(turns)
        spoken = messages.pop() if messages[-1].role == "assistant" else None
        if not messages or messages[-1].role != "user":
            raise DataError("a conversation needs a user's turn, and at most one answer after the last")
        expected = _choice(row, "expected", Expected, Expected.ANSWER)
        answers = _answers(row, spoken)
        wanted = None
        if answers and "label" in row and "label" not in self.options.kept:
            wanted = meanings.feedback(row["label"], plain="label" not in self.written)
        self._refuse_marks(messages, answers)
        reasoning, answers = ("", answers) if wanted is False else _apart(row, answers)
        used = SHARED | TOLD | {self.shape, *(["label"] if wanted is False else [])}
        return self._checked(
            Example(
                id=name,
                prompt=tuple(messages),
                answers=() if wanted is False else answers,
                expected=expected,
                subset=_text(row, "subset"),
                category=_text(row, "category"),
                subcategory=_text(row, "subcategory"),
                cluster=_cluster(row, messages, self.folder),
                role=_choice(row, "role", Role, self.options.role if expected is Expected.ANSWER else Role.SAFETY),
                source=_text(row, "source", self.options.name),
                meta=self._meta(used, understood={"label"} if wanted is not None else set()),
                avoid=answers if wanted is False else (),
                reasoning=reasoning,
            )
        )

    def pair(self, name: str) -> Pair:
        """The row as a preference pair."""
        row = self.row
        shape = "input" if isinstance(row.get("input"), dict) else next((key for key in SHAPES if key in row), "")
        if "chosen" not in row and shape and "rejected" in row:
            self._preferred(shape)
        for key in ("chosen", "rejected"):
            if key not in row:
                raise DataError(f"a pair needs 'chosen' and 'rejected'; this one has no {key!r}")
        turns = self._turns(shape) if shape else self._beginning()
        messages = self._conversation(turns)
        if messages[-1].role != "user":
            raise DataError("the prompt of a pair should end with a user's turn")
        others = row.get("rejected_images")
        unread, tags = self.heard.unread, self.options.tags
        chosen, rejected = (
            reply(row[key], key, unread, implicit=not shape, tags=tags) for key in ("chosen", "rejected")
        )
        self._refuse_marks(messages, (chosen, rejected))
        return self._checked(
            Pair(
                id=name,
                prompt=tuple(messages),
                chosen=chosen,
                rejected=rejected,
                rejected_images=None if others is None else tuple(picture_of(v, self.folder) for v in _listed(others)),
                subset=_text(row, "subset"),
                category=_text(row, "category"),
                subcategory=_text(row, "subcategory"),
                cluster=_cluster(row, messages, self.folder),
                role=_choice(row, "role", Role, Role.SAFETY),
                source=_text(row, "source", self.options.name),
                meta=self._meta(SHARED | {*PAIR, shape}, understood=NOTED),
            )
        )

    @property
    def _literal(self) -> bool:
        """Whether marks in texts are texts."""
        return self.options.placeholders == "text" or PARTS in self.row

    def _refuse_marks(self, messages: Sequence[Message], answers: Sequence[str]) -> None:
        """Raise DataError for a mark where there is no picture, unless a check of texts reports all of them."""
        if not (any(message.images for message in messages) or self._literal or is_tolerant()):
            refuse_marks([*(Turn(m.role, m.parts) for m in messages), Turn("assistant", tuple(answers))])

    def _preferred(self, shape: str) -> None:
        """ms-swift's pairs: the last turn of the conversation is the chosen answer, the row names the rejected one."""
        told, other = self.row[shape], self.row["rejected"]
        if not isinstance(told, list) or not told:
            raise DataError(f"{shape!r} should be a list of messages, and not empty")
        *asked, chosen = cast("list[Any]", told)
        if isinstance(other, list) and len(cast("list[Any]", other)) > 1:
            *before, other = cast("list[Any]", other)
            if before != asked:
                raise DataError(f"{shape!r} and 'rejected_messages' should be one conversation but for its last answer")
        self.row.update({shape: asked, "chosen": [chosen], "rejected": other})

    def _beginning(self) -> list[Turn]:
        """The turns that both conversations of a pair begin with."""
        chosen, rejected = self.row["chosen"], self.row["rejected"]
        if not isinstance(chosen, list) or not isinstance(rejected, list):
            raise DataError("a pair needs 'prompt', 'messages' or 'conversations', or two whole conversations")
        if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
            raise DataError("'chosen' and 'rejected' should be one conversation but for its last answer")
        return self._messages(chosen[:-1], "chosen")

    def _messages(self, told: object, key: str) -> list[Turn]:
        return from_messages(told, key, self.heard.unread, self.options.tags)

    def _turns(self, shape: str) -> list[Turn]:
        row, told = self.row, self.row[shape]
        if shape == "input":
            turns = self._messages(told.get("messages"), "input.messages")
        elif isinstance(told, str) and shape == "prompt":
            if not told.strip():
                raise DataError("'prompt' should be a text or a list of messages, and not empty")
            turns = [*_history(row), said("user", told)]
        else:
            turns = self._messages(told, shape)
        if shape == "prompt" and isinstance(told, list):
            turns = self._shown_only(turns)
            if isinstance(row.get("completion"), list):  # TRL's conversational form
                turns = turns + self._messages(row["completion"], "completion")
        return _exactly(turns, row) if PARTS in row else turns

    def _shown_only(self, turns: list[Turn]) -> list[Turn]:
        """What stands in `prompt` is not learned, as in TRL, unless it says so."""
        silent = [turn.speaker == "assistant" and turn.learned is None for turn in turns]
        if any(silent):
            self.heard.remarks[UNLEARNED] += 1
        return [replace(turn, learned=False) if hush else turn for turn, hush in zip(turns, silent, strict=True)]

    def _learned(self, turns: list[Turn]) -> list[Turn]:
        """The turns up to the last that is learned, where some are marked as not: nothing hangs on what follows."""
        if turns[-1].speaker != "assistant" or turns[-1].learned is not False:
            return turns
        ends = [at for at, turn in enumerate(turns) if turn.speaker == "assistant" and turn.learned is not False]
        if not ends:
            raise DataError("no turn of it is to be learned: all of the assistant's are marked as not")
        self.heard.remarks[CUT] += 1
        return turns[: ends[-1] + 1]

    def _conversation(self, turns: list[Turn]) -> list[Message]:
        row = self.row
        shown = row.get("images", row.get("image"))
        named = [] if shown is None else [picture_of(value, self.folder) for value in _listed(shown)]
        turns = _with_system(turns, _text(row, "system"))
        return with_pictures(turns, named, self.folder, self.heard.unread, literal=self._literal)

    def _meta(self, used: frozenset[str] | set[str], understood: Iterable[str] = ()) -> dict[str, str]:
        """What the row says beside, as text. A key that looks like a misspelling of ours is refused."""
        row, kept = self.row, self.options.kept
        meta = _given_meta(row["meta"]) if "meta" in row else {}
        for key in row.keys() - used:
            close = [] if key in kept or key in KNOWN else [name for name in _alike(key) if name not in row]
            if close:
                raise DataError(
                    f"unknown key {brief(key)}. Did you mean {close[0]!r}? (?map={key}:{key} keeps it as it is)"
                )
            if key in meta:
                raise DataError(f"{brief(key)} stands in the row and in its 'meta'")
            meta[key] = _told(row[key])
            if key not in kept and key not in understood and key != "given_id":
                self.heard.unread[brief(key)] += 1
        return dict(sorted(meta.items()))

    def _checked(self, item: Item) -> Item:
        """The item, unless a picture stands under a key that nobody understood."""
        if not item.images:
            known = SHARED | TOLD | {*PAIR, self.shape, "input", *self.options.kept}
            meanings.refuse_pictures(self.row, sorted(self.row.keys() - known))
        return item


def _with_system(turns: list[Turn], system: str) -> list[Turn]:
    """The row's system text first. Raises DataError where the turns have another one: only one can be meant."""
    own = [turn for turn in turns if turn.speaker == "system"]
    if len(own) > 1 or (own and turns[0] is not own[0]):
        raise DataError("a conversation has one turn of the system, and begins with it")
    if not system:
        return turns
    if not own:
        return [Turn("system", ({"type": "text", "text": system},)), *turns]
    if "".join(block if isinstance(block, str) else str(block.get("text")) for block in own[0].blocks) != system:
        raise DataError("the row has one system text under 'system' and another as a turn; leave one of them out")
    return turns


def _history(row: Mapping[str, Any]) -> list[Turn]:
    """Earlier questions with their answers, which are learned as well."""
    told = row.get("history", [])
    pairs = cast("list[Any]", told) if isinstance(told, list) else [told]
    turns: list[Turn] = []
    for pair in pairs:
        texts = cast("list[Any]", pair) if isinstance(pair, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) and text for text in texts):
            raise DataError("'history' should be a list of pairs, a question and its answer each")
        turns += [said("user", texts[0]), said("assistant", texts[1])]
    return turns


def _exactly(turns: list[Turn], row: Mapping[str, Any]) -> list[Turn]:
    """The turns with the parts that our own exports wrote beside them; None is a picture."""
    exact = row[PARTS]
    if not isinstance(exact, list) or len(exact) > len(turns) or not all(isinstance(parts, list) for parts in exact):
        raise DataError(f"{PARTS!r} should be one list of parts for each turn of the prompt")
    told = [
        replace(turn, blocks=tuple({"type": "image"} if p is None else {"type": "text", "text": p} for p in parts))
        for turn, parts in zip(turns, cast("list[list[str | None]]", exact), strict=False)
    ]
    return told + turns[len(told) :]


def _answers(row: Mapping[str, Any], spoken: Message | None) -> tuple[str, ...]:
    """Every reference answer: the last turn or a key of the row, or all of them in `answers`."""
    if spoken is not None and spoken.images:
        raise DataError("an answer holds a picture; answers are texts")
    turned = isinstance(row.get("completion"), list) and "prompt" in row and isinstance(row["prompt"], list)
    given = [key for key in ANSWERS if key in row and not (turned and key == "completion")]
    if len(given) + (spoken is not None) > 1:
        named = [*map(repr, given), *(["a last turn of the assistant"] if spoken else [])]
        raise DataError(f"a row has one answer; this one has {' and '.join(named)}")
    first = [spoken.text] if spoken else _texts(row, given[0]) if given else []
    every = _texts(row, "answers") if "answers" in row else first
    if first and every[:1] != first[:1]:
        raise DataError("'answers' should list every answer, beginning with the one that the row gives")
    return tuple(answer for answer in every if answer.strip())


def _apart(row: Mapping[str, Any], answers: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The reasoning before the first answer, which stands in the row or in that answer, and the answers without it."""
    thought, answer = leading(answers[0]) if answers else ("", "")
    told = _text(row, "reasoning").strip()
    if told and (not answers or thought not in ("", told)):
        raise DataError(f"'reasoning' goes before an answer, and the row has {'another one' if answers else 'none'}")
    return (told or thought), ((answer, *answers[1:]) if thought else answers)


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    texts = _listed(row[key])
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{key!r} should be a text or a list of texts")
    return texts


def _cluster(row: Mapping[str, Any], messages: Sequence[Message], folder: Path) -> str:
    """As the row says; else its first picture, by name or, where it has none, by content."""
    if "cluster" in row:
        return _text(row, "cluster")
    first: Image | None = next((image for message in messages for image in message.images), None)
    if first is None:
        return ""
    if first.path is None:
        return first.sha256[:16]
    return first.path.as_posix().removeprefix(f"{folder.as_posix()}/")


def _choice(row: Mapping[str, Any], key: str, kind: type[Choice], default: Choice) -> Choice:
    value = row.get(key)
    if value is None:
        return default
    try:
        return kind(value)
    except ValueError:
        known = [str(member) for member in kind]
        raise DataError(f"no {key} {brief(value)}.{nearest(str(value), known)} Known: {', '.join(known)}") from None


def _text(row: Mapping[str, Any], key: str, default: str = "") -> str:
    value = row.get(key, default)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # a column of numbers with a gap
        return str(int(value))
    raise DataError(f"{key!r} should be a text, is a {type(value).__name__}")


def _given_meta(value: Any) -> dict[str, str]:
    """An object, maybe written as text (columns of parquet cannot differ from row to row)."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {"meta": value}
    if not isinstance(value, dict):
        return {"meta": _told(value)}
    return {key: _told(cell) for key, cell in value.items() if cell is not None}


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return f"({len(value):,} bytes)" if isinstance(value, bytes) else str(value)


@lru_cache(maxsize=4096)
def _alike(key: str) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(key, KNOWN, n=4, cutoff=0.8))
