"""A model folder for others to load: made whole or not at all, with a manifest of what is in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmend import manifest
from vlmend.errors import StoreError
from vlmend.saving import write_model
from vlmend.store import room_for


def refuse_full(out: Path) -> None:
    """Raise StoreError where `out` holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is not empty; choose another folder")


def write_whole(model: Any, processor: Any, out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a model and its processor. Returns the manifest: `about`, the environment, and the weights' hashes.

    Raises StoreError before the first byte where there is no room for the weights.
    """
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if (free := room_for(out, "--out")) < size:
        raise StoreError(f"--out {out} has {free / 1e6:,.0f} MB of room, and the model takes {size / 1e6:,.0f} MB")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_model(model, part)
        processor.save_pretrained(part)
        told = {
            **about,
            "environment": manifest.environment("cpu"),
            "weights": {p.name: manifest.file_hash(p) for p in sorted(part.glob("*.safetensors"))},
        }
        manifest.write_manifest(part, told)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return told
