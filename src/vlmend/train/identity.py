"""Which run a folder holds: by the settings, data and model that decide what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmend.config import OwnConfig, Recipe
from vlmend.data.batches import Plan
from vlmend.data.mix import Mix
from vlmend.errors import StoreError
from vlmend.store import read_json, room_for
from vlmend.train import checkpoint
from vlmend.types import digest

LATER = {
    ("output", "dtype"): "auto",
    ("method", "same_judge"): "refused",
    ("train", "projector_learning_rate"): None,
    ("train", "thinking"): "supervise",
    ("train", "own"): OwnConfig().model_dump(mode="json"),
}  # settings that older folders do not have, which then had this value
# What has its effect, if any, on which rows there are, and so on the identity of the data.
FREE = {
    "data": {"bad_images", "max_pixels"},
    "method": {"server"},  # of the same model: its address, or whether there is one, is another matter at each start
    "output": {"dir"},
    "train": {"logging_steps", "save_steps", "save_total_limit", "report_to"},
}


def comparable(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide what comes out: two runs that agree in them are the same run."""
    sections = {name: section for name, section in recipe.resolved().items() if name not in ("speed", "judging")}
    return {
        name: {
            key: value
            for key, value in section.items()
            if key not in FREE.get(name, ()) and LATER.get((name, key), ...) != value
        }
        for name, section in sections.items()
    }


def identity(recipe: Recipe, mix: Mix, model: str, plan: Plan) -> dict[str, Any]:
    """The identity of a run; `model` is the fingerprint of what is tuned."""
    return {
        "recipe": comparable(recipe),
        "data": digest(mix.report),
        "model": model,
        "rows_per_step": plan.rows_per_step,
    }


def refuse_other(folder: Path, identity: dict[str, Any]) -> None:
    """Raise StoreError when the folder holds another run (going by the keys of `identity`), or something else."""
    room_for(folder, "output.dir")
    if not folder.exists() or all(path.name.endswith(".part") for path in folder.iterdir()):
        return  # a run that was killed in its first write has left nothing but a part of it
    if not (folder / "recipe.yaml").exists():
        raise StoreError(f"{folder} is not empty and holds no tuning run; choose another output.dir")
    there = finished(folder).get("identity")
    kept = checkpoint.checkpoints(folder)
    if there is None and kept:
        there = read_json(kept[-1] / "state.json")["identity"]
    if there is None:
        return
    found = checkpoint.differences({key: there.get(key) for key in identity}, identity)
    if found:
        raise StoreError(f"{folder} holds another run: {'; '.join(found)}; choose another output.dir or remove it")


def finished(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run, or nothing."""
    path = folder / "manifest.json"
    return read_json(path) if path.exists() else {}
