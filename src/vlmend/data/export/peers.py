"""What the program that rows are written for makes of them: what it cannot hold, counted, and how it is given them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vlmend.data.export.album import Album
from vlmend.data.export.forms import Form, Item, Row, answers_of
from vlmend.data.preferences import alike
from vlmend.errors import DataError
from vlmend.store import write_atomic
from vlmend.types import Example, Image, Message, Pair

INFO = "dataset_info.json"
BLOCK = 10 << 20  # bytes that `datasets` reads at once of JSON Lines; what the first block has, it knows


@dataclass
class Tally:
    """What was written so far: how many of what, and what there is to say of it."""

    counts: dict[type[Item], int] = field(default_factory=lambda: {Example: 0, Pair: 0})
    keys: Counter[str] = field(default_factory=Counter[str])  # in how many rows, where not empty
    late: set[str] = field(default_factory=set[str])  # those that no row of the first block has
    remarks: Counter[str] = field(default_factory=Counter[str])
    pictures: int = 0  # rows that show any
    blocks: bool = False  # whether the file is read block by block
    size: int = 0  # about how many bytes it has by now

    def add(self, item: Item, row: Row, form: Form) -> None:
        """Count one row."""
        self.counts[type(item)] += 1
        turns = (turn for key in ("messages", "prompt", "conversations") for turn in row.get(key, ()))
        marked = {"loss of a turn"} if any("loss" in turn for turn in turns if isinstance(turn, dict)) else set[str]()
        keys = {key for key, value in row.items() if value not in (None, [])} | marked
        if self.blocks:
            self.late |= keys - self.keys.keys() if self.size > BLOCK else set()
            self.size += sum(len(str(value)) for value in row.values())
        self.keys.update(keys)
        self.pictures += bool(item.images)
        self.remarks.update(_remarks(item, form))

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


def refuse_order(item: Item) -> None:
    """Raise DataError where user and assistant do not take turns."""
    turns = [m.role for m in item.prompt if m.role != "system"]
    if turns != [("user", "assistant")[at % 2] for at in range(len(turns))]:
        raise DataError(f"its turns are of {', '.join(turns)}; here the user and the assistant take turns")


def _remarks(item: Item, form: Form) -> Iterator[str]:
    """What is lost of an item, as its program reads the row."""
    if any(map(_shown_otherwise, item.images)):
        yield "pictures that are turned (EXIF), transparent or of 16 bits, which other programs may show in another way"
    earlier = [m for m in item.prompt if m.role == "assistant"]
    yield from _of_turns(item, earlier, form)
    if isinstance(item, Pair):
        if item.rejected_images is not None and not form.other_pictures:
            yield f"the rejected side sees other pictures; {form.program} shows it those of the chosen one"
        if form.other_pictures and alike(item):
            yield f"both sides say the same; {form.program} leaves such pairs out"
    elif not answers_of(item):
        yield f"no answer, so nothing that {form.program} could learn"
    elif item.avoid:
        yield "an answer to avoid ('label': false), which only training on such feedback (KTO) knows as one"
    if form.program == "LLaVA" and len(item.images) > 1:
        yield "several pictures, where LLaVA's own code has one"


def _shown_otherwise(image: Image) -> bool:
    """Whether we have to do something to a picture that others do not do, or do differently."""
    if image.drawn:
        return False
    try:
        return not image.header.changes.isdisjoint(("rotated", "transparent", "deep"))
    except DataError:  # not there, or no picture: whoever looks at it will say so
        return False


def _of_turns(item: Item, earlier: list[Message], form: Form) -> Iterator[str]:
    learned = [m for m in earlier if m.supervised]
    learns = "last" if isinstance(item, Pair) else form.learns
    if learned and learns == "last":
        other = "" if isinstance(item, Pair) else " ('trl_messages' and assistant_only_loss=True learn all)"
        yield f"earlier answers that are learned here; {form.program} learns the last alone{other}"
    if len(learned) < len(earlier) and learns == "all":
        if form.entry and not learned:
            yield f"earlier answers that are not learned here; {form.program} learns all (mask_history: true: the last)"
        else:
            yield f"earlier answers that are not learned here; {form.program} learns all"


def notes(tally: Tally, form: Form) -> tuple[str, ...]:
    """What to know of a written file, a line each."""
    found = [f"{count:,} of {tally.rows:,}: {remark}" for remark, count in sorted(tally.remarks.items())]
    labeled = tally.keys["label"]
    if 0 < labeled < tally.rows:
        found.append(f"{labeled:,} of {tally.rows:,} have feedback ('label'); KTO trainers need it in every row")
    if tally.late and form.tables:
        found.append(
            f"{', '.join(map(repr, sorted(tally.late)))} not in the first 10 MiB: `datasets` refuses such JSON Lines; "
            "write .json or .parquet"
        )
    return tuple(found)


def check_info(folder: Path) -> None:
    """Raise DataError where a dataset_info.json cannot be added to, before anything is written."""
    _entries(folder)


def add_entry(file: Path, form: Form, tally: Tally) -> str:
    """Write what LLaMA-Factory needs to know of a file into the dataset_info.json beside it, and say its name there."""
    entries = _entries(file.parent)
    plain = file.parent.resolve().name if file.stem == "data" else file.stem
    known = next((n for n, e in entries.items() if isinstance(e, dict) and e.get("file_name") == file.name), plain)
    name = known if known not in entries or entries[known].get("file_name") == file.name else f"{known}_{file.stem}"
    pairs = tally.counts[Pair] > 0
    said = {"messages": "conversations"} if form.entry == "sharegpt" else {"prompt": "instruction", "query": "input"}
    sides = {"chosen": "chosen", "rejected": "rejected"} if pairs else {}
    answer = {"response": "output"} if form.entry == "alpaca" and not pairs else {}
    there = {column: key for column, key in COLUMNS.items() if tally.keys[key]}
    entry: Row = {"file_name": file.name, "formatting": form.entry, "columns": {**said, **answer, **sides, **there}}
    if pairs:
        entry["ranking"] = True
    text = json.dumps({**entries, name: entry}, indent=2, ensure_ascii=False)
    write_atomic(file.parent / INFO, f"{text}\n".encode())
    return name


COLUMNS = {"images": "images", "system": "system", "history": "history", "kto_tag": "label"}


def _entries(folder: Path) -> dict[str, Any]:
    file = folder / INFO
    if not file.is_file():
        return {}
    try:
        held: object = json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file} is not valid JSON ({error}); the new rows belong into it") from error
    if not isinstance(held, dict):
        raise DataError(f"{file} should hold an object; the new rows belong into it")
    return cast("dict[str, Any]", held)


def taken(file: Path, form: str, tally: Tally, album: Album, name: str) -> str:
    """How its program is given the file, in a line; empty where that goes without saying."""
    shown = tally.pictures > 0
    if name:
        stage = "dpo" if tally.counts[Pair] else "kto" if tally.keys["label"] else "sft"
        return f"in LLaMA-Factory's YAML: stage: {stage}, dataset_dir: {file.parent}, dataset: {name}"
    if form == "swift":
        root = f"ROOT_IMAGE_DIR={file.parent.resolve()} " if shown and album.naming == "relative" else ""
        kind = "dpo" if tally.counts[Pair] else "kto" if tally.keys["label"] else ""
        return f"{root}swift {f'rlhf --rlhf_type {kind}' if kind else 'sft'} --dataset {file}"
    if form in ("trl", "trl_messages", "parquet") and shown and album.naming == "relative":
        return (
            f"pictures are named from {file.parent}: train there, or write them with --absolute, or --embed in .parquet"
        )
    if form == "openai" and shown and album.naming != "embedded":
        return "OpenAI opens no files: --embed writes the pictures in"
    return ""
