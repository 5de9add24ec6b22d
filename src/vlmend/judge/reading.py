"""What a judge's model wrote, read strictly: a verdict from the menu, or none.

The last complete object counts, since a model may repeat what it was shown before it decides. A word that merely occurs
decides nothing: "no" is in "normal", "unsafe" in "not unsafe".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 4_000  # characters from the end that are read: a verdict is short, and a reply may be anything
SHOWN = 120  # characters of an unreadable reply that are quoted


@dataclass(frozen=True)
class Menu:
    """One thing to be said: one of `values`, or a number from 0 to 1 where there are none."""

    name: str
    values: tuple[str, ...] = ()

    def read(self, value: object) -> str | None:
        """The value as it stands on the menu, or None."""
        if not self.values:
            return _number(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = f"{value:g}"  # a grade is often written as a number
        said = value.strip().strip("*_`\"'.").casefold() if isinstance(value, str) else ""
        return next((v for v in self.values if v.casefold() == said), None)


def _number(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return str(number) if math.isfinite(number) and 0 <= number <= 1 else None


@dataclass(frozen=True)
class Read:
    """The values by name, or why there are none; `reason` is what the model gave as one."""

    values: Mapping[str, str]
    why: str = ""
    reason: str = ""


def read(text: str, menus: Sequence[Menu]) -> Read:
    """The last verdict in a reply: a JSON object, else `name: value` lines, else the bare value of a single menu."""
    text = text[-LONGEST:]
    if objects := list(_objects(text)):
        return _checked(objects[-1], menus)
    lines = {m.name: line for m in menus if (line := _line(text, m)) is not None}
    if len(lines) == len(menus):
        return _checked(lines, menus)
    if len(menus) == 1 and (value := menus[0].read(text)) is not None:
        return Read({menus[0].name: value})
    return Read({}, f"unreadable verdict: {_short(text)}")


def schema(menus: Sequence[Menu], *, reason: bool = False) -> str:
    """The JSON schema of a reply, as text."""
    properties: dict[str, Any] = {"reason": {"type": "string"}} if reason else {}
    for menu in menus:
        number = {"type": "number", "minimum": 0, "maximum": 1}
        properties[menu.name] = {"type": "string", "enum": list(menu.values)} if menu.values else number
    made = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return json.dumps(made)


def _checked(found: Mapping[str, object], menus: Sequence[Menu]) -> Read:
    values = {menu.name: menu.read(found.get(menu.name)) for menu in menus}
    missing = next((name for name, value in values.items() if value is None), None)
    if missing is not None:
        said = repr(found[missing]) if missing in found else "nothing"
        return Read({}, f"verdict off the menu: {missing} is {_short(said)}")
    return Read({n: v for n, v in values.items() if v is not None}, reason=str(found.get("reason", "")))


def _objects(text: str) -> Iterator[Mapping[str, object]]:
    """Every JSON object that stands in the text, none of them inside another."""
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    start = text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(found, dict):
                yield found
        start = text.find("{", end)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no key stands twice: which of the two would count?"""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _line(text: str, menu: Menu) -> str | None:
    lines = re.findall(rf"(?im)^[\s*_\"'`>-]*{re.escape(menu.name)}[\s*_\"'`]*[:=][\s*_\"'`]*([^\n,;]*)", text)
    return lines[-1] if lines else None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= SHOWN else line[:SHOWN] + "…")
