"""Writing a whole model, its weights named as in released checkpoints, so that other engines load it too."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOWERS = ("clip_vision_model", "siglip_vision_model")
# transformers writes these towers without the level that every released checkpoint has, and vLLM looks for
SHORT = re.compile(r"(^|\.)(vision_tower|image_tower|video_tower)\.(?!vision_model\.)")


def write_model(model: Any, folder: Path) -> None:
    """`model.save_pretrained(folder)`, then the names of weights as they are published."""
    model.save_pretrained(folder)
    vision = getattr(model.config, "vision_config", None)
    if getattr(vision, "model_type", "") in TOWERS:
        rename_weights(folder, lambda name: SHORT.sub(r"\1\2.vision_model.", name))


def rename_weights(folder: Path, rename: Callable[[str], str]) -> None:
    """Give the weights of a folder other names. Only the headers change; the numbers are copied as they lie."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            named = {key if key == "__metadata__" else rename(key): value for key, value in header.items()}
            if len(named) < len(header):
                raise ValueError(f"{path}: two weights would have one name")
            if named == header:
                continue
            text = json.dumps(named, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)  # the format wants the numbers to begin at a multiple of eight
            part = path.with_suffix(".part")
            with part.open("wb") as copy:
                copy.write(len(text).to_bytes(8, "little") + text)
                shutil.copyfileobj(file, copy, 1 << 24)
        part.replace(path)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        tree = json.loads(index.read_text(encoding="utf-8"))
        tree["weight_map"] = {rename(name): file for name, file in tree["weight_map"].items()}
        index.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
