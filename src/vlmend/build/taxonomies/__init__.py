"""The taxonomies that come with the package, one YAML file each; `vlmend.build.taxonomy` says what one is."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Every taxonomy of ours, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """One line about one of ours, read without the rest."""
    with (FOLDER / f"{name}.yaml").open(encoding="utf-8") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("summary:")), "")
