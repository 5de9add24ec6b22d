"""An adapter put into its base for good: a plain model folder, for engines that load no adapters, or not all of them.

W + B A is computed in float32 and then rounded to what is written. In float32 it answers as base and adapter do; in
bfloat16 the sum is rounded once more, which the manifest says.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from vlmend.config import ModelConfig, parse_recipe
from vlmend.errors import UsageError
from vlmend.models.folder import refuse_full, write_whole
from vlmend.models.load import DTYPES, load
from vlmend.models.places import locate
from vlmend.plain_yaml import parse

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def of_run(name: str) -> ModelConfig:
    """What a tuning run's folder, or BASE+ADAPTER, names. Raises UsageError where that is no adapter on a base."""
    folder = Path(name).expanduser()
    recipe = folder / "recipe.yaml"
    if recipe.is_file():
        model = parse_recipe(parse(recipe.read_text(encoding="utf-8"), f"recipe {recipe}"), f"recipe {recipe}").model
        if model.tune == "full":
            raise UsageError(f"{name} was tuned in full: it is a whole model already, and there is nothing to merge")
        return model.model_copy(update={"adapter": str(folder)})
    if folder.is_dir():
        raise UsageError(f"{name} is no finished tuning run: it has no recipe.yaml; write BASE+ADAPTER for an adapter")
    config = ModelConfig.from_spec(name)
    if not config.adapter:
        raise UsageError(f"{name!r} names no adapter; write the folder of a tuning run, or BASE+ADAPTER")
    return config


def merge(config: ModelConfig, out: Path, dtype: Dtype = "auto") -> dict[str, Any]:
    """Write base and adapter as one model folder, processor included. Returns its manifest.

    `auto` is what the base's weights were saved in. Raises StoreError where `out` holds something or has no room.
    """
    refuse_full(out)
    plain = config.model_copy(update={"dtype": "float32", "quantization": "none", "device": "cpu"})
    loaded = load(plain)
    kind = _saved_in(config) if dtype == "auto" else DTYPES[dtype]
    model = loaded.model.to(kind)
    about = {
        "kind": "merge",
        "base": config.name,
        "adapter": config.adapter,
        "base_weights": loaded.base,
        "fingerprint": loaded.fingerprint,
        "dtype": str(kind).removeprefix("torch."),
        "tuned_on": config.quantization,
        "family": asdict(loaded.codec.family),
    }
    return write_whole(model, loaded.codec.processor, out, about)


def _saved_in(config: ModelConfig) -> torch.dtype:
    """The precision that the base's own configuration names; float32 where it names none."""
    from transformers import AutoConfig

    settings: Any = AutoConfig.from_pretrained(
        locate(config.name), revision=config.revision, trust_remote_code=config.trust_remote_code
    )
    return settings.dtype or torch.float32


__all__ = ["merge", "of_run"]
