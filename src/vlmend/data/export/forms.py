"""One example or pair as a row of each format: what other programs read, and under keys of our own what they ignore."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlmend.data.export.album import Album
from vlmend.data.formats import PARTS
from vlmend.data.turns import MARK, MOVING, PLACE, marks_apart
from vlmend.errors import DataError
from vlmend.reasoning import written
from vlmend.types import Example, Image, Message, Pair

Row = dict[str, Any]
Item = Example | Pair
SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
LABELS = ("expected", "answers", "subset", "category", "subcategory", "cluster", "role", "source", "meta")
OURS = frozenset(("id", *LABELS, PARTS))  # what only we read


@dataclass(frozen=True)
class Form:
    """A format: its rows, and what the program that it is for does with them.

    learns: the last answer of a conversation, all, or those that are not marked. suffix: of the file where only a
    folder is given. tables: whether it may be parquet, too. urls: whether pictures inside may be data: URLs.
    pairs, alternates, other_pictures, lists: whether it has pairs; whether user and assistant have to take turns;
    whether the rejected side of a pair may see other pictures; whether a row of text in a file with pictures needs an
    empty list of them. entry: how LLaMA-Factory's dataset_info.json calls it.
    """

    row: Callable[[Item, Album], Row]
    program: str
    suffix: str = ".json"
    learns: Literal["last", "all", "marked"] = "all"
    tables: bool = False
    urls: bool = True
    pairs: bool = True
    alternates: bool = False
    other_pictures: bool = False
    lists: bool = False
    entry: str = ""


def _trl(item: Item, album: Album) -> Row:
    """TRL's conversational rows: prompt and completion, or prompt, chosen and rejected; pictures in `images`."""
    row = {"id": item.id, "prompt": _blocks(item), **_said(item), **_shown(item, album), **_labels(item)}
    return row | _to_the_letter(item)


def _trl_messages(item: Item, album: Album) -> Row:
    """TRL's rows of whole conversations."""
    turns = [
        {"role": m.role, "content": [part_of(part) for part in m.parts]} | _unlearned(m, "loss", False)
        for m in item.prompt
    ]
    told = _said(item).get("completion", [])
    return {"id": item.id, "messages": [*turns, *told], **_shown(item, album), **_labels(item)} | _to_the_letter(item)


def _sharegpt(item: Item, album: Album) -> Row:
    """Turns of `from` and `value` with marks for pictures, a line each; the sides of a pair are turns of their own."""
    return _conversations(item, album, "\n")


def _llamafactory(item: Item, album: Album) -> Row:
    """ShareGPT's turns, parts one right behind the other: its templates write them as they stand."""
    refuse_moving(item)
    return _conversations(item, album, "")


def _conversations(item: Item, album: Album, between: str) -> Row:
    asked = [
        {"from": SPEAKERS[m.role], "value": marked(m, between), **_unlearned(m, "loss", False)} for m in item.prompt
    ]
    if isinstance(item, Pair):
        said = {"conversations": asked, "chosen": _plain(item.chosen), "rejected": _plain(item.rejected)}
    else:
        said = {"conversations": [*asked, *map(_plain, answers_of(item)[:1])]}
    exact = _exact([turn["value"] for turn in asked], item.prompt)
    return {"id": item.id, **said, **_shown(item, album), **_labels(item), **exact}


def _llava(item: Item, album: Album) -> Row:
    """ShareGPT's turns with the picture, or the list of several, in `image`."""
    row = _sharegpt(item, album)
    shown: list[str] = row.pop("images", [])
    image = {"image": shown[0] if len(shown) == 1 else shown} if shown else {}
    return {"id": row.pop("id"), **image, **row}


def _swift(item: Item, album: Album) -> Row:
    """ms-swift's messages with marks for pictures; of a pair the last one is chosen and `rejected_response` is not."""
    if any(tag in text for text in texts_of(item) for tag in ("<img>", "</img>")):
        raise DataError("its text holds <img>, which ms-swift takes for the name of a picture")
    refuse_moving(item)
    asked = [{"role": m.role, "content": marked(m, ""), **_unlearned(m, "loss", False)} for m in item.prompt]
    last = [{"role": "assistant", "content": _unmarked(text)} for text in answers_of(item)[:1]]
    other = {"rejected_response": _unmarked(item.rejected)} if isinstance(item, Pair) else {}
    exact = _exact([turn["content"] for turn in asked], item.prompt)
    return {"id": item.id, "messages": [*asked, *last], **other, **_shown(item, album), **_labels(item), **exact}


def _alpaca(item: Item, album: Album) -> Row:
    """One question in `instruction`, its answer in `output`, earlier ones in `history`."""
    system = [m for m in item.prompt if m.role == "system"]
    if any(len(m.parts) != 1 or not m.text for m in system):
        raise DataError("the system's turn is more than one text, and this format has one")
    refuse_moving(item)
    turns = [m for m in item.prompt if m.role != "system"]
    told = [marked(m, "") for m in turns]
    if not all(text.strip() for text in told):
        raise DataError("a turn says and shows nothing, and this format has no place for it")
    row: Row = {"id": item.id, "instruction": told[-1], "input": ""}
    if isinstance(item, Pair):
        row |= {"chosen": _unmarked(item.chosen), "rejected": _unmarked(item.rejected)}
    elif answers := answers_of(item):
        row["output"] = _unmarked(answers[0])
    if len(told) > 1:
        row["history"] = [list(pair) for pair in zip(told[:-1:2], told[1:-1:2], strict=True)]
    if system:
        row["system"] = _unmarked(system[0].text)
    unlearned = [m for m in turns if m.role == "assistant" and not m.supervised]
    if unlearned and len(unlearned) < len(turns) // 2:
        raise DataError("some of its earlier answers are learned and some are not, which `history` cannot say")
    return row | _shown(item, album) | _labels(item) | _exact(told, turns)


def _openai(item: Item, album: Album) -> Row:
    """Messages with pictures inside as `image_url`; pairs as OpenAI's preference rows."""
    if any(m.images for m in item.prompt if m.role != "user"):
        raise DataError("OpenAI takes pictures in the turns of the user alone")
    messages = [
        {"role": m.role, "content": _content(m, album)} | (_unlearned(m, "weight", 0) if m.role == "assistant" else {})
        for m in item.prompt
    ]
    last = [{"role": "assistant", "content": text} for text in answers_of(item)]
    if isinstance(item, Pair):
        told = {"preferred_output": last[:1], "non_preferred_output": last[1:]}
        others = {key: names for key, names in _shown(item, album).items() if key == "rejected_images"}
        row = {"id": item.id, "input": {"messages": messages}, **told, **others, **_labels(item)}
    else:
        row = {"id": item.id, "messages": [*messages, *last[:1]], **_labels(item)}
    return row | _to_the_letter(item)


def _content(message: Message, album: Album) -> str | list[Row]:
    if message.role != "user" and len(message.parts) == 1:
        return message.text
    return [part_of(part, album) for part in message.parts]


def _blocks(item: Item) -> list[Row]:
    """The turns of a prompt, which TRL does not learn: where we do, it is said."""
    return [
        {"role": m.role, "content": [part_of(part) for part in m.parts]}
        | ({"loss": True} if m.role == "assistant" and m.supervised else _unlearned(m, "loss", False))
        for m in item.prompt
    ]


def _unlearned(message: Message, key: str, value: bool | int) -> Row:
    return {} if message.supervised else {key: value}


def _exact(written: Sequence[str], turns: Sequence[Message]) -> Row:
    """The parts of the turns, where the texts that were written do not read as them."""
    parts = _parts(turns)
    same = all([part or None for part in marks_apart(text)] == own for text, own in zip(written, parts, strict=True))
    return {} if same else {PARTS: parts}


def _parts(turns: Sequence[Message]) -> list[list[str | None]]:
    return [[None if isinstance(part, Image) else part for part in m.parts] for m in turns]


def _to_the_letter(item: Item) -> Row:
    """The parts of the turns, where a mark in a text of theirs would be missed a picture."""
    marked = not item.images and any(PLACE.search(text) or MOVING.search(text) for text in texts_of(item))
    return {PARTS: _parts(item.prompt)} if marked else {}


def texts_of(item: Item) -> Iterator[str]:
    """Everything that is said."""
    yield from (message.text for message in item.prompt)
    yield from answers_of(item)


def answers_of(item: Item) -> tuple[str, ...]:
    """What is answered. Raises DataError for an example with answers to give and to avoid: a row has one kind."""
    if isinstance(item, Pair):
        return item.chosen, item.rejected
    if item.answers and item.avoid:
        raise DataError("it has answers to give and answers to avoid; rows have one kind")
    if item.answers and item.reasoning:
        return written(item.reasoning, item.answers[0]), *item.answers[1:]
    return item.answers or item.avoid


def part_of(part: str | Image, album: Album | None = None) -> Row:
    """A content part; a picture is its place alone, or with an album its name as well."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image"} if album is None else {"type": "image_url", "image_url": {"url": album.name(part)}}


def _said(item: Item) -> Row:
    if isinstance(item, Pair):
        return {"chosen": [_answer(item.chosen)], "rejected": [_answer(item.rejected)]}
    told = [_answer(text) for text in answers_of(item)[:1]]
    return {"completion": told} if told else {}


def _answer(text: str) -> Row:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def _plain(answer: str) -> Row:
    return {"from": "gpt", "value": _unmarked(answer)}


def marked(message: Message, between: str) -> str:
    """A turn as text, with a mark for each picture. Raises DataError where its text holds one itself."""
    return between.join(MARK if isinstance(part, Image) else _unmarked(part) for part in message.parts)


def _unmarked(text: str) -> str:
    if MARK in text:
        raise DataError(
            f"its text holds {MARK}, which would be taken for a picture; trl, openai and parquet can say it"
        )
    return text


def refuse_moving(item: Item) -> None:
    """Raise DataError where a text holds a mark of what moves or sounds."""
    for text in texts_of(item):
        if found := next((tag for tag in ("<video>", "<audio>") if tag in text), ""):
            raise DataError(f"its text holds {found}, which would be taken for one; trl, openai and parquet can say it")


def _shown(item: Item, album: Album) -> Row:
    entries = [album.entry(image) for message in item.prompt for image in message.images]
    shown = {"images": entries} if entries else {}
    if isinstance(item, Pair) and item.rejected_images is not None:
        shown["rejected_images"] = [album.entry(image) for image in item.rejected_images]
    return shown


def _labels(item: Item) -> Row:
    """What is known about an item beside what is said, under our own names; empty labels are left out.

    `meta` is text: its keys differ from row to row, which columns cannot.
    """
    labels: Row = {"expected": str(item.expected)} if isinstance(item, Example) else {}
    labels |= {key: text for key in ("subset", "category", "subcategory") if (text := getattr(item, key))}
    labels |= {"cluster": item.cluster, "role": str(item.role), "source": item.source}
    meta = dict(item.meta)
    if isinstance(item, Example):
        if len(answers_of(item)) > 1:
            labels["answers"] = list(answers_of(item))
        if item.avoid or (item.answers and meta.get("label") == "true"):  # as rows with feedback are read
            labels["label"] = not item.avoid
            meta = {key: text for key, text in meta.items() if key != "label" or item.avoid}
    return labels | ({"meta": json.dumps(meta, ensure_ascii=False)} if meta else {})


LF = "LLaMA-Factory"
FORMS = {
    "trl": Form(_trl, "TRL", ".jsonl", "last", tables=True, lists=True),
    "trl_messages": Form(_trl_messages, "TRL", ".jsonl", tables=True, pairs=False, lists=True),
    "llamafactory": Form(_llamafactory, LF, tables=True, urls=False, alternates=True, entry="sharegpt"),
    "swift": Form(_swift, "ms-swift", learns="marked", tables=True, alternates=True, other_pictures=True),
    "llava": Form(_llava, "LLaVA"),
    "sharegpt": Form(_sharegpt, "what reads ShareGPT's rows"),
    "alpaca": Form(_alpaca, LF, tables=True, urls=False, alternates=True, entry="alpaca"),
    "openai": Form(_openai, "OpenAI", ".jsonl", "marked"),
    "parquet": Form(_trl, "TRL", ".parquet", "last", tables=True, lists=True),
}
