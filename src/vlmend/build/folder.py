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
from typing import Any

from vlmend.build.sift import Rules, Sifted, kept
from vlmend.data.dataset import read_any
from vlmend.data.export import Written, write
from vlmend.errors import StoreError
from vlmend.store import read_json, write_json

ABOUT, SETS = "build.json", "sets"


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this run's, or check that it is. Raises StoreError naming the setting that differs."""
    path = out / ABOUT
    if not path.exists():
        if out.is_dir() and any(out.iterdir()):
            raise StoreError(f"{out} holds something else than what `vlmend build` makes; choose another folder")
        write_json(path, {"settings": dict(settings)})
        return
    known = settings_of(out)
    for key in (*settings, *known):
        if settings.get(key) != known.get(key):
            raise StoreError(
                f"{out} holds another run: {key} is {known.get(key)!r} there, {settings.get(key)!r} asked for; choose"
                " another folder"
            )


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
