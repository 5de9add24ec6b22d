"""Papers as data: what each needs, what it asks, and its tables with the figures that were published.

One YAML file per paper, `NAME.yaml` here; `published.jsonl` has the published figures, each with where it was read and
what is doubtful about it. Nothing of a paper is code: what is asked is suites, attacks and judges by their specs.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Every paper, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """Its title, read without the rest."""
    with (FOLDER / f"{name}.yaml").open(encoding="utf-8") as file:
        return next((line.partition(":")[2].strip().strip('"') for line in file if line.startswith("title:")), "")
