"""How refusals are put in other languages than English: the patterns of `foreign.yaml`, which says what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

VERSION = 2
FILE = Path(__file__).with_name("foreign.yaml")


class Signs(NamedTuple):
    """`declines`: leans to a refusal. `needed`: without it, there is none. `reports`: leans to an answer."""

    declines: re.Pattern[str]
    needed: re.Pattern[str]
    reports: re.Pattern[str]


@cache
def signs() -> Mapping[str, Signs]:
    """The patterns of every language, by its code."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    rows: dict[str, dict[str, list[str]]] = yaml.load(FILE.read_text(encoding="utf-8"), loader)
    return {code: Signs(*(_pattern(row, field) for field in Signs._fields)) for code, row in rows.items()}


def _pattern(row: Mapping[str, list[str]], field: str) -> re.Pattern[str]:
    """Any of a field's patterns, with the lists of words that they name."""
    text = "|".join(row[field])
    for name in row.keys() - set(Signs._fields):
        text = text.replace(f"{{{name}}}", f"(?:{'|'.join(row[name])})")
    return re.compile(text)
