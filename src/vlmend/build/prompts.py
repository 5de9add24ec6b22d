"""The words of a pipeline: a YAML file of ours with a version, or the user's own with the same keys and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, cast

from vlmend import plain_yaml
from vlmend.errors import ConfigError, nearest
from vlmend.types import digest

FOLDER = Path(__file__).with_name("prompts")


@dataclass(frozen=True)
class Prompts(Mapping[str, str]):
    """Prompts by the name of their stage. `version` is what their file says of itself, and a hash of its words."""

    texts: Mapping[str, str]
    version: str

    def __getitem__(self, name: str) -> str:
        return self.texts[name]

    def __iter__(self) -> Any:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)


def load(pipeline: str, own: Path | None = None) -> Prompts:
    """The prompts of a pipeline, or the user's own in their place.

    Raises ConfigError for a file that is not such a file, lacks a prompt, has one too many, or has a place that nothing
    fills.
    """
    shipped = _read(FOLDER / f"{pipeline}.yaml")
    if own is None:
        return shipped
    found = _read(own)
    for name in found:
        if name not in shipped:
            raise ConfigError(f"{own}: pipeline {pipeline} has no prompt {name!r}.{nearest(name, shipped)}")
        for place in _places(own, name, found[name]) - _places(FOLDER, name, shipped[name]):
            known = ", ".join(sorted(_places(FOLDER, name, shipped[name]))) or "none"
            raise ConfigError(f"{own}: nothing fills {{{place}}} of prompt {name!r}; it has: {known}")
    if missing := [name for name in shipped if name not in found]:
        raise ConfigError(f"{own} lacks the prompt {missing[0]!r}; pipeline {pipeline} has {', '.join(shipped)}")
    return found


def _read(path: Path) -> Prompts:
    try:
        data = plain_yaml.parse(path.read_text(encoding="utf-8"), f"prompts {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompts {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    texts = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    version = texts.pop("version", None)
    if not isinstance(version, int) or not texts or not all(isinstance(text, str) and text for text in texts.values()):
        raise ConfigError(f"prompts {path} should have a whole number 'version' and a text for each stage")
    return Prompts(texts, f"{version}-{digest(texts)[:8]}")


def _places(path: Path, name: str, text: str) -> set[str]:
    found: set[str] = set()
    try:
        for _, place, form, conversion in Formatter().parse(text):
            if form or conversion:
                raise ValueError(f"{{{place}}} has more in it than a name")
            if place is not None:
                found.add(place)
    except ValueError as error:
        raise ConfigError(f"{path}: prompt {name!r}: {error}; a brace that is meant is written twice") from error
    return found
