"""Layers by name: which module a recipe means, and what it puts out while the model runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vlmend.errors import ConfigError, nearest
from vlmend.models.parts import owner


def find_layer(model: nn.Module, layer: int | str) -> nn.Module:
    """The one module that a number (of the language model's layers, from 0) or the end of a dotted name means.

    A name that other parts of the model have as well means the language model's. Raises ConfigError when there is none
    or more than one.
    """
    wanted = f"layers.{layer}" if isinstance(layer, int) else layer
    modules = dict(model.named_modules())
    found = [name for name in modules if name == wanted or name.endswith(f".{wanted}")]
    spoken = [name for name in found if owner(name) == "language_model"]
    found = spoken if spoken or isinstance(layer, int) else found
    if len(found) != 1:
        layers = [n for n in modules if owner(n) == "language_model" and n.split(".")[-2:-1] == ["layers"]]
        known = [".".join(name.split(".")[-2:]) for name in layers]
        what = f"means {len(found)} modules: {', '.join(found[:3])}" if found else "means no module"
        raise ConfigError(f"layer {layer!r} {what}.{nearest(wanted, known)} Known: {', '.join(known)}")
    return modules[found[0]]


@contextmanager
def capture(model: nn.Module, layer: int | str | None) -> Generator[list[Tensor]]:
    """What the layer puts out in the one forward pass made here, (B, T, d); nothing for no layer."""
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        del module, inputs
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = find_layer(model, layer).register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def stopping(model: nn.Module, layer: int | str | None) -> Generator[None]:
    """The language model without the layers after this one; whole for no layer."""
    found = None if layer is None else _stack(model, find_layer(model, layer))
    if found is None:
        yield
        return
    parent, name, layers, count = found
    setattr(parent, name, layers[:count])
    try:
        yield
    finally:
        setattr(parent, name, layers)


def _stack(model: nn.Module, layer: nn.Module) -> tuple[nn.Module, str, nn.ModuleList, int] | None:
    """The list of layers that one is of or in: who holds it, under what name, and up to where it is needed."""
    path = next(name for name, module in model.named_modules() if module is layer).split(".")
    for end in range(len(path) - 1, 0, -1):
        *above, name = path[:end]
        parent = model.get_submodule(".".join(above))
        layers = getattr(parent, name)
        if isinstance(layers, nn.ModuleList):
            return parent, name, layers, int(path[end]) + 1
    return None
