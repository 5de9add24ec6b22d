"""VLGuard: 3,000 labeled pictures, safe and unsafe, with instructions to answer and to refuse (arXiv 2402.02207).

`safe` in the files speaks of the picture. A safe picture has two questions, a harmless one to answer and a harmful one
to refuse; an unsafe picture has one instruction, to refuse. Pictures and metadata are published under a click-through
gate and are not part of this package: point `path` at the folder.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vlmend.errors import DataError, nearest
from vlmend.types import Example, Expected, Image, Message, Role

KEYS = {"id", "image", "safe", "instr-resp"}
HARM = {"harmful_category", "harmful_subcategory"}


class Ask(NamedTuple):
    """One question with its reference answer."""

    turn: int
    subset: str
    question: str
    answer: str

    @property
    def expected(self) -> Expected:
        """Only the harmless question about a safe picture is to be answered."""
        return Expected.ANSWER if self.subset == "safe_safe" else Expected.REFUSE


QUESTIONS = {"instruction": "unsafe", "safe_instruction": "safe_safe", "unsafe_instruction": "safe_unsafe"}


@dataclass(frozen=True)
class VLGuard:
    """Settings: the folder, the split, and how the two questions of a safe picture are asked.

    `single`: each question is an example of its own, as models are evaluated. `published`: both make one conversation
    in the authors' shuffled order, so the second is asked after the first one's answer.
    """

    path: Path
    split: str = "train"
    turns: Literal["single", "published"] = "single"

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file, pictures named but not opened."""
        entries = records(self.path, self.split)
        root = _picture_root(self.path, self.split, {str(e["image"]).partition("/")[0] for e in entries})
        order = random.Random(0)
        seen: Counter[str] = Counter()
        for index, entry in enumerate(entries):
            seen[entry["id"]] += 1
            again = f"~{seen[entry['id']]}" if seen[entry["id"]] > 1 else ""
            name = f"vlguard/{self.split}/{entry['id']}{again}"
            asks = questions(entry)
            if self.turns == "published":
                yield _conversation(f"{name}/published", published_order(asks, order), entry, index, root)
            else:
                yield from (_conversation(f"{name}/{ask.turn}", [ask], entry, index, root) for ask in asks)


plugin = VLGuard


def records(path: Path, split: str) -> list[dict[str, Any]]:
    """The published records of one split, checked strictly. Raises DataError with file and record."""
    file = _index(path, split)
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(entries, list):
        raise DataError(f"{file} should hold a list of records, it holds a {type(entries).__name__}")
    for index, entry in enumerate(entries):
        if problem := _problem(entry):
            raise DataError(f"{file} record {index}: {problem}")
    return entries


def questions(entry: dict[str, Any]) -> list[Ask]:
    """The questions of a checked record, in the order of the file."""
    asks: list[Ask] = []
    for turn, ask in enumerate(entry["instr-resp"]):
        key = next(key for key in ask if key != "response")
        asks.append(Ask(turn, QUESTIONS[key], ask[key], ask["response"]))
    return asks


def published_order(asks: list[Ask], order: random.Random) -> list[Ask]:
    """The authors' order: one generator, seeded with 0, shuffles the two questions of each safe picture in turn."""
    asks = list(asks)
    if len(asks) > 1:
        order.shuffle(asks)
    return asks


def _conversation(name: str, asks: list[Ask], entry: dict[str, Any], index: int, root: Path) -> Example:
    *earlier, last = asks
    picture = Image(root / entry["image"])
    messages: list[Message] = []
    for ask in earlier:
        messages += [Message("user", (ask.question,)), Message("assistant", (ask.answer,))]
    messages.append(Message("user", (last.question,)))
    messages[0] = Message("user", (picture, *messages[0].parts))
    return Example(
        id=name,
        prompt=tuple(messages),
        answers=(last.answer,) if last.answer.strip() else (),
        expected=last.expected,
        subset=last.subset,
        category=entry.get("harmful_category", ""),
        subcategory=entry.get("harmful_subcategory", ""),
        cluster=f"vlguard/{entry['image']}",
        role=Role.SAFETY,
        source="vlguard",
        meta={"record": str(index), "origin": entry["image"].partition("/")[0]},
    )


def _index(path: Path, split: str) -> Path:
    folders = [path, path / "data"]
    found = {f.stem: f for folder in reversed(folders) for f in sorted(folder.glob("*.json"))}
    if split in found:
        return found[split]
    if not path.is_dir():
        raise DataError(f"there is no VLGuard folder {path}; download the data set and name its folder")
    known = sorted(found)
    raise DataError(
        f"VLGuard folder {path} has no {split}.json, nor has its data folder.{nearest(split, known)} "
        f"Splits there: {', '.join(known) or 'none'}"
    )


def _picture_root(path: Path, split: str, tops: set[str]) -> Path:
    """The usual places, in order; the first that has any of the picture folders, else where the archive puts them."""
    places = [path / split, path / "data" / split, path / split / split, path, path / "images", path.parent / split]
    return next((place for place in places if any((place / top).is_dir() for top in tops)), places[0])


def _problem(entry: object) -> str:
    """What is wrong with a record, or the empty string."""
    if not isinstance(entry, dict):
        return f"should be an object, is a {type(entry).__name__}"
    if not isinstance(entry.get("safe"), bool):
        return "'safe' should be true or false"
    allowed = KEYS if entry["safe"] else KEYS | HARM
    if wrong := _keys(set(entry), allowed):
        return wrong
    texts = sorted(allowed - {"safe", "instr-resp"})
    if bad := next((key for key in texts if not isinstance(entry[key], str) or not entry[key]), None):
        return f"{bad!r} should be a text"
    return _wrong_questions(entry["instr-resp"], safe=entry["safe"])


def _wrong_questions(asks: object, *, safe: bool) -> str:
    wanted = ["safe_instruction", "unsafe_instruction"] if safe else ["instruction"]
    if not isinstance(asks, list) or len(asks) != len(wanted):
        return f"'instr-resp' should be a list of {len(wanted)}"
    for ask, key in zip(asks, wanted, strict=True):
        if not isinstance(ask, dict):
            return "'instr-resp' should hold objects"
        if wrong := _keys(set(ask), {key, "response"}):
            return f"instr-resp: {wrong}"
        if not all(isinstance(text, str) for text in ask.values()):
            return "instr-resp: questions and responses should be texts"
    return ""


def _keys(found: set[Any], allowed: set[str]) -> str:
    for key in sorted(map(str, found - allowed)):
        return f"unexpected key {key!r}.{nearest(key, allowed)} Expected: {', '.join(sorted(allowed))}"
    missing = sorted(allowed - found)
    return f"key {missing[0]!r} is missing" if missing else ""
