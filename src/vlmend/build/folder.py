"""A run's folder: what it is made with, the files of its sets, and what was lost.

build.json      the settings that identify the run, and the report of its quality
calls.sqlite    every call with its request, by what was asked of whom
items.jsonl     what came of each start: drafts with their provenance, and losses with what was said
sets/NAME.jsonl the rows of a set that were kept, as the source jsonl reads them
decisions.json  what people decided about drafts, where they did; review.html is the page on which they do
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vlmend.build.drafts import ITEMS
from vlmend.build.run import CALLS
from vlmend.build.sift import Rules, Sifted, kept
from vlmend.data.dataset import read_any
from vlmend.data.export import Written, write
from vlmend.errors import StoreError
from vlmend.store import Journal, read_json, write_json

ABOUT, SETS = "build.json", "sets"


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this run's, or check that it is. Raises StoreError naming the setting that differs.

    A run that came to nothing, as one with a mistyped source, has no claim on its folder.
    """
    path = out / ABOUT
    if not path.exists():
        if out.is_dir() and any(out.iterdir()):
            raise StoreError(f"{out} holds something else than what `vlmend build` makes; choose another folder")
        write_json(path, {"settings": dict(settings)})
        return
    known = settings_of(out)
    if known == settings:
        return
    with Journal(out / ITEMS) as journal:  # nobody is at work there
        if not (out / CALLS).exists() and not journal.rows():
            write_json(path, {"settings": dict(settings)})
            return
    for key in (*settings, *known):
        if settings.get(key) != known.get(key):
            differs = _difference(key, known.get(key), settings.get(key))
            raise StoreError(f"{out} holds another run: {differs}; choose another folder")


def _difference(key: str, there: Any, asked: Any) -> str:
    """How a setting differs, in words; of a hash nobody could tell anything."""
    if key == "made_of":
        return "its pipeline's words or options were others"
    if key == "company" and isinstance(there, dict) and isinstance(asked, dict):
        parts = cast("dict[str, list[list[str]]]", there), cast("dict[str, list[list[str]]]", asked)
        part = next(part for part in (*parts[0], *parts[1]) if parts[0].get(part) != parts[1].get(part))
        names = [" and ".join(name for name, _ in some.get(part, ())) or "nobody" for some in parts]
        if names[0] == names[1]:
            return f"{part} {names[0]} had other settings, or another revision, there"
        return f"{part} is {names[0]} there, {names[1]} asked for"
    return f"{key} is {there!r} there, {asked!r} asked for"


def settings_of(out: Path) -> dict[str, Any]:
    """What a run is made with. Raises StoreError where the folder holds none."""
    if not (out / ABOUT).is_file():
        raise StoreError(f"{out} is no folder of `vlmend build`: it has no {ABOUT}")
    return read_json(out / ABOUT).get("settings", {})


def rules_of(out: Path) -> Rules:
    """The rules that a run's rows were held against. Raises StoreError where it did not come to that."""
    settings_of(out)
    rules = read_json(out / ABOUT).get("rules")
    if rules is None:
        raise StoreError(f"{out} was stopped before its sets were written; run the same `vlmend build` again")
    tests = [item for spec in rules["test"] for item in read_any(spec)]
    return Rules(rules["language"], rules["longest"], tests)


def note(out: Path, report: Mapping[str, Any]) -> None:
    """Keep a report beside the settings."""
    write_json(out / ABOUT, {**read_json(out / ABOUT), **report})


def write_sets(out: Path, sifted: Sifted) -> dict[str, Written]:
    """Write what is kept of every set; a set nothing is kept of has no file."""
    written: dict[str, Written] = {}
    for name in sifted.drafts:
        file = out / SETS / f"{name}.jsonl"
        if sifted.kept[name]:
            written[name] = write(kept(out, sifted, name), "trl", file)
        else:
            file.unlink(missing_ok=True)
    return written
