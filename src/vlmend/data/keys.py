"""What the keys of a row mean: the field's many names for a few things, brought to ours.

A key is renamed only where its meaning is plain. One that may mean something and is not understood is counted, so that
it can be said; one that plainly holds a picture which would not be shown is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from vlmend.data.turns import SPEAKERS, STANDARD, Tags, looks_like_picture
from vlmend.errors import DataError, brief
from vlmend.types import Speaker

SAME = {
    "query": "prompt",  # ms-swift
    "question": "prompt",
    "instruction": "prompt",  # Alpaca
    "conversation": "conversations",
    "output": "answer",  # Alpaca
    "preferred_output": "chosen",  # OpenAI
    "non_preferred_output": "rejected",
    "kto_tag": "label",  # LLaMA-Factory
    "kto_label": "label",
    "desirable": "label",
    "is_desirable": "label",
    "reasoning_content": "reasoning",
    "thinking": "reasoning",
}
# The columns of LLaMA-Factory's dataset_info.json by the key they are called there.
COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "messages": "conversations",
    "system": "system",
    "images": "images",
    "chosen": "chosen",
    "rejected": "rejected",
    "kto_tag": "label",
}
UNSHOWN = ("video", "videos", "audio", "audios")
PICTURE = re.compile(
    r"(?:image|img|picture|pic|photo)s?_?(?:path|file|file_?name|name|url|uri|bytes|base64|b64|data)?s?_?(\d*)|file_?name"
)
LETTERS = "ABCDEFGHIJ"
CHOOSE = "Reply with the letter of the right choice."


def ours(row: Mapping[str, Any], kept: Iterable[str]) -> dict[str, Any]:
    """The row with our names where the field's are plain. What is null, or no number, is not there.

    Raises DataError for two keys of one meaning, and for what models here are never shown.
    """
    named: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for key, value in row.items():
        if value is None or value != value:  # a number that is none is how some programs write nothing
            continue
        name = key if key in kept else SAME.get(key, key)
        if name in named:
            raise DataError(
                f"{origin[name]!r} and {key!r} mean the same, and a row has one of them; ?map={key}:{key} keeps the "
                "second as a label"
            )
        named[name], origin[name] = value, key
    for key in UNSHOWN:
        if key not in kept and named.get(key):
            raise DataError(f"{key!r} holds what models are not shown here: pictures are all they see")
    if "index" in named and "id" not in named and origin.get("prompt") == "question":  # VLMEvalKit
        named["id"] = named.pop("index")
    return _with_pictures(_with_choices(_with_input(_rejected(named), row)), kept)


def _with_input(row: dict[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """Alpaca's `input` is the rest of the prompt, whatever the first part is called; OpenAI's is the prompt itself."""
    told = row.get("input")
    if isinstance(told, dict):
        return row
    if isinstance(told, str) and isinstance(row.get("prompt"), str):
        del row["input"]
        row["prompt"] = "\n".join(filter(str.strip, (row["prompt"], told)))
    elif isinstance(told, str) and "prompt" not in row and "answer" in row and "output" in written:
        row["prompt"] = row.pop("input")
    return row


def _rejected(row: dict[str, Any]) -> dict[str, Any]:
    """ms-swift's `rejected_response` and `rejected_messages`: what the answer of the row was preferred to."""
    told = [key for key in ("rejected_response", "rejected_messages") if key in row]
    if not told:
        return row
    if len(told) > 1 or "rejected" in row or "chosen" in row:
        raise DataError(f"{told[0]!r} stands beside another rejected answer; a pair has one")
    value = row.pop(told[0])
    if isinstance(value, list) and told[0] == "rejected_response":
        if len(cast("list[Any]", value)) != 1:
            raise DataError("'rejected_response' should be one answer; make a row of each")
        value = value[0]
    row["rejected"] = value
    if "messages" not in row and "conversations" not in row:
        answer = next((key for key in ("answer", "response", "completion") if key in row), None)
        if answer is None:
            raise DataError(f"a row with {told[0]!r} needs the answer that was preferred")
        row["chosen"] = row.pop(answer)
    return row


def _with_choices(row: dict[str, Any]) -> dict[str, Any]:
    """VLMEvalKit's lettered choices, as lines of the question; the letter and its choice are both right."""
    letters = list(_lettered(row))
    if len(letters) < 2 or not isinstance(row.get("prompt"), str):
        return row
    choices = {letter: str(row.pop(letter)) for letter in letters}
    lines = [f"{letter}. {choice}" for letter, choice in choices.items()]
    hint = row.pop("hint", "")
    row["prompt"] = "\n".join(filter(None, (str(hint).strip(), row["prompt"], *lines, CHOOSE)))
    answer = row.get("answer")
    if answer is not None:
        letter = str(answer).strip()
        if letter not in choices:
            raise DataError(f"'answer' {brief(answer)} is none of the choices {', '.join(choices)}")
        row["answers"] = [letter, f"{letter}. {choices[letter]}", choices[letter]]
        del row["answer"]
    return row


def _lettered(row: Mapping[str, Any]) -> Iterable[str]:
    for letter in LETTERS:
        if letter not in row:
            return
        yield letter


def _with_pictures(row: dict[str, Any], kept: Iterable[str]) -> dict[str, Any]:
    """The row's pictures under `image` or `images`, whatever it calls them. Raises DataError where it is unclear."""
    if row.get("images") == []:
        del row["images"]
    if "image" in row and "images" in row:
        if _list(row["image"]) != _list(row["images"]):
            raise DataError("a row has 'image' or 'images', not both")
        del row["image"]
    plain = {key: number for key in row if key not in kept and (number := _number(key)) is not None}
    named = [key for key in plain if key not in ("image", "images") and looks_like_picture(row[key])]
    shown = next((key for key in ("images", "image") if key in row), None)
    if shown is not None:
        for key in named:
            _refuse_another(row, shown, key)
        return row
    if not named:
        return row
    named.sort(key=lambda key: plain[key])
    values = [_list(row[key]) for key in named]
    if len({plain[key] for key in named}) < len(named) or (len(named) > 1 and 0 in (plain[key] for key in named)):
        if any(value != values[0] for value in values):
            raise DataError(
                f"{' and '.join(map(repr, named))} all seem to name pictures; say which are meant, as in "
                f"?map={named[0]}:image,{named[1]}:{named[1]}"
            )
        values = values[:1]
    for key in named:
        del row[key]
    row["images"] = [value for each in values for value in each]
    return row


def _refuse_another(row: Mapping[str, Any], shown: str, key: str) -> None:
    """A second key may well name the picture that the row holds; one that names another must not be dropped."""
    here, there = (_list(row[name]) for name in (shown, key))
    held = all(isinstance(v, str) and not v.startswith("data:") and len(v) < 300 for v in (*here, *there))
    if held and {Path(v).name for v in there} - {Path(v).name for v in here}:
        raise DataError(
            f"{shown!r} and {key!r} name different pictures; say whether both are shown: ?map={key}:images, or "
            f"?map={key}:{key} to leave it out"
        )


@lru_cache(maxsize=4096)
def _number(key: str) -> int | None:
    """The number of the picture that a key plainly names, 0 without one; None for a key of something else."""
    match = PICTURE.fullmatch(key.lower().replace("-", "_").replace(" ", "_"))
    return int(match[1] or 0) if match else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def refuse_pictures(row: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raise DataError when one of the keys, none of which is understood, holds a picture that nobody would see."""
    for key in keys:
        if looks_like_picture(row[key]):
            raise DataError(
                f"{key!r} seems to name a picture ({brief(row[key])}), and the row shows none; ?map={key}:image shows "
                f"it, ?map={key}:{key} keeps it as text"
            )


@dataclass(frozen=True)
class Beside:
    """What LLaMA-Factory's dataset_info.json says of a file that lies beside it."""

    name: str = ""
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: Tags = STANDARD


def beside(file: Path) -> Beside | None:
    """The entry of a dataset_info.json beside the file that names it, if there is one."""
    about = file.parent / "dataset_info.json"
    try:
        held: object = json.loads(about.read_bytes()) if about.is_file() else None
    except (OSError, ValueError):
        return None
    entries = cast("dict[str, Any]", held) if isinstance(held, dict) else {}
    for name, entry in entries.items():
        if isinstance(entry, dict) and cast("dict[str, Any]", entry).get("file_name") == file.name:
            return _beside(name, cast("dict[str, Any]", entry))
    return None


def _beside(name: str, entry: Mapping[str, Any]) -> Beside:
    columns: dict[str, str] = {key: text for key, text in entry.get("columns", {}).items() if text}
    keys = {text: COLUMNS[key] for key, text in columns.items() if key in COLUMNS and text != COLUMNS[key]}
    told: Mapping[str, str] = entry.get("tags", {})
    speakers: dict[str, Speaker] = {}
    for who, speaker in (("user", "user"), ("assistant", "assistant"), ("system", "system")):
        if f"{who}_tag" in told:
            speakers[told[f"{who}_tag"]] = SPEAKERS[speaker]
    return Beside(name, keys, Tags(told.get("role_tag", "from"), told.get("content_tag", "value"), speakers))


def feedback(value: object, *, plain: bool) -> bool | None:
    """Whether people wanted the row's answer, by its `label`; None where that is a label of another kind.

    1 and 0 may be either: they are feedback where the file has a `plain` name for it, such as `kto_tag`, and refused
    where it is called `label`. Raises DataError.
    """
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    if text not in ("1", "0", "1.0", "0.0"):
        return None
    if not plain:
        raise DataError(
            f"'label' {brief(value)} may be feedback on the answer, or a class: ?map=label:kto_tag reads 1 as good and "
            "0 as to avoid, ?map=label:label keeps it as text"
        )
    return text.startswith("1")
