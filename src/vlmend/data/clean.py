"""A cleaned copy of a data set: rows that the source `jsonl` reads, and a log of what was left out and why.

Pictures are named where they lie; only those that had no file of their own are written, beside the copy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmend.data.check import Checked, known_kinds
from vlmend.data.checks.finding import KINDS, Item
from vlmend.data.checks.sights import Sight, Sights
from vlmend.data.inside import OPTION, lies_in
from vlmend.errors import UsageError
from vlmend.store.files import write_atomic
from vlmend.types import Example, Image, Message, Pair

LABELS = ("id", "subset", "category", "subcategory", "cluster", "role", "source")


@dataclass(frozen=True)
class Cleaned:
    """A copy that was written, its log, and how many examples went where."""

    file: Path
    log: Path
    kept: int
    dropped: int
    outside: bool = False  # whether it names pictures that do not lie in its own folder

    @property
    def spec(self) -> str:
        """What reads the copy."""
        return f"jsonl:{self.file}" + (f"?{OPTION}=true" if self.outside else "")

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        counts = {"kept": self.kept, "dropped": self.dropped}
        return {"file": str(self.file), "spec": self.spec, "log": str(self.log), **counts}


def write(checked: Checked, file: Path, *, also: Iterable[str] = ()) -> Cleaned:
    """Write what is left without the examples that have a defect of a kind that is dropped, or of the kinds `also`.

    Where nothing is left, only the log is written. Raises UsageError when the file exists or cannot be meant.
    """
    log = refuse(file)
    reasons = _reasons(checked, {kind for kind, about in KINDS.items() if about.dropped} | known_kinds(also))
    kept: list[Item] = []
    dropped: list[dict[str, Any]] = []
    for item, why in zip(checked.items, _why(checked, reasons), strict=True):
        if why:
            dropped.append({"id": item.id, "kinds": list(why), "why": [_meaning(checked, kind) for kind in why]})
        else:
            kept.append(item)
    pictures = file.with_suffix(".pictures")
    _lines(log, dropped)
    if kept:
        _lines(file, [_row(item, checked.sights, file.parent, pictures) for item in kept])
    named = {image.path for item in kept for image in item.images if image.path is not None}
    outside = any(not lies_in(path, file.parent) for path in named)
    return Cleaned(file, log, len(kept), len(dropped), outside)


def refuse(file: Path, *, copy: str = "cleaned", log: str = "dropped") -> Path:
    """Where the log of a copy goes. Raises UsageError when the copy cannot be written to `file`."""
    if file.suffix != ".jsonl":
        raise UsageError(f"a {copy} copy is a file of JSON lines; name it {file.with_suffix('.jsonl')}, not {file}")
    beside = file.with_suffix(f".{log}.jsonl")
    for path in (file, beside):
        if path.exists():
            raise UsageError(f"{path} exists; remove it, or write the {copy} copy to another file")
    return beside


def _reasons(checked: Checked, kinds: set[str]) -> Mapping[str, list[str]]:
    """Kinds of defect for which an example is dropped, by its id."""
    reasons: dict[str, list[str]] = {}
    for finding in checked.findings:
        for name in finding.ids if finding.kind in kinds else ():
            reasons.setdefault(name, []).append(finding.kind)
    return reasons


def _why(checked: Checked, reasons: Mapping[str, list[str]]) -> Iterator[Sequence[str]]:
    """Why each example is dropped. Of several with one id, the first is not dropped for that."""
    seen: set[str] = set()
    for item in checked.items:
        yield [kind for kind in reasons.get(item.id, ()) if kind != "ambiguous_id" or item.id in seen]
        seen.add(item.id)


def _meaning(checked: Checked, kind: str) -> str:
    return next(finding.message for finding in checked.findings if finding.kind == kind)


def _row(item: Item, sights: Sights, folder: Path, pictures: Path) -> dict[str, Any]:
    """A row in TRL's conversational form, whose content parts keep pictures where they stand in the text."""
    named = {image: _reference(image, sights[image], folder, pictures) for image in item.images}
    row: dict[str, Any] = {key: getattr(item, key) for key in LABELS}
    row["prompt"] = [_message(message, named) for message in item.prompt]
    if isinstance(item, Example):
        row |= {"answers": list(item.answers or item.avoid), "expected": item.expected}
        row |= {"label": False} if item.avoid else {}
    else:
        row |= {"chosen": item.chosen, "rejected": item.rejected}
    if isinstance(item, Pair) and item.rejected_images is not None:
        row["rejected_images"] = [named[image] for image in item.rejected_images]
    return {**row, "meta": dict(item.meta)}


def _message(message: Message, named: Mapping[Image, str]) -> dict[str, Any]:
    parts = [
        {"type": "image", "image": named[part]} if isinstance(part, Image) else {"type": "text", "text": part}
        for part in message.parts
    ]
    learned = {"loss": message.supervised} if message.role == "assistant" else {}  # a prompt's turns are not, as such
    return {"role": message.role, "content": parts or [{"type": "text", "text": ""}], **learned}


def _reference(image: Image, sight: Sight, folder: Path, pictures: Path) -> str:
    """The picture's file, seen from the copy; a picture without one is written to the folder of pictures."""
    file = image.path
    if file is None:
        file = pictures / f"{sight.sha256[:32]}{sight.suffix}"
        if not file.exists():
            write_atomic(file, image.read(), sync=False)
    return Path(os.path.relpath(file, folder)).as_posix()


def _lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(file, text.encode("utf-8", "backslashreplace"))
