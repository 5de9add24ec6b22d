"""An adapter put into the weights for a while, so that sampling multiplies one matrix where there would be three."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def merged(model: Any) -> Generator[bool]:
    """The model with its LoRA in its weights, and afterwards with the very weights it had: pointers are exchanged.

    Yields whether that was done: weights in 16 bits or fewer stay as they are, for the sum would be rounded to them and
    what is sampled would be another policy.
    """
    layers = _layers(model)
    if not layers or not all(_exact(layer) for layer in layers):
        yield False
        return
    before: list[Tensor] = [layer.get_base_layer().weight.data for layer in layers]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, before, strict=True):
                names = list(layer.active_adapters)
                layer.get_base_layer().weight.data = weight + sum(layer.get_delta_weight(name) for name in names)
                layer.merged_adapters.extend(names)
        yield True
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()


def _layers(model: Any) -> list[Any]:
    if not hasattr(model, "disable_adapter"):
        return []
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _exact(layer: Any) -> bool:
    weight = layer.get_base_layer().weight
    plain = type(weight) is torch.nn.Parameter and weight.dtype == torch.float32
    return plain and not layer.merged_adapters and not getattr(layer, "lora_variant", None)
