"""The vision tower of a model, apart from the projector behind it: what it gives can be kept and given again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from vlmend.models.kept import Entry
from vlmend.models.parts import outermost, owner
from vlmend.models.prompts import bare

LAST = "last_hidden_state"
LAYER = "hidden_states."


class Tower:
    """A module that sees pictures, and the `layers` of its hidden states that are read; none: its last state."""

    def __init__(self, module: nn.Module, layers: Sequence[int] = (), *, last: bool = True) -> None:
        self.module = module
        self._layers = layers
        self._last = last

    @contextmanager
    def keeping(self) -> Generator[list[Entry]]:
        """While this lasts it runs without a gradient, and what it gives is written down."""
        seen: list[Entry] = []
        real: Callable[..., Any] = self.module.forward

        def forward(*args: Any, **settings: Any) -> Any:
            with torch.no_grad():
                output = real(*args, **settings)
            seen.append(self._entry(output))
            return output

        with _instead(self.module, forward):
            yield seen

    @contextmanager
    def giving(self, entry: Entry) -> Generator[None]:
        """While this lasts it does not run, and gives what is kept."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        last: Any = entry.get(LAST)
        layers: Any = {-1: last}
        layers |= {int(name.removeprefix(LAYER)): kept for name, kept in entry.items() if name.startswith(LAYER)}

        def forward(*args: Any, **settings: Any) -> Any:
            del args, settings
            return BaseModelOutputWithPooling(last_hidden_state=last, hidden_states=layers)

        with _instead(self.module, forward):
            yield

    def _entry(self, output: Any) -> Entry:
        last: Tensor = output.last_hidden_state
        if self._last and output.hidden_states is None:  # some families ask for no other state where they read this one
            return {LAST: last}
        found = {f"{LAYER}{layer}": output.hidden_states[layer] for layer in self._layers}
        return {LAST: last, **{n: kept for n, kept in found.items() if kept is not last}} if self._last else found


@contextmanager
def _instead(module: nn.Module, forward: Callable[..., Any]) -> Generator[None]:
    """Another forward on the module itself, in front of that of its class or of whoever wrapped it before."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def tower_of(model: Any) -> Tower | None:
    """The tower, if there is one that gives a row for each picture or tile, and the projector is not part of it."""
    core = bare(model)
    found = outermost(core, "vision_tower")
    if len(found) != 1:
        return None
    module: nn.Module = core.get_submodule(found[0])
    inside = any(owner(f"{found[0]}.{name}") == "projector" for name, _ in module.named_modules())
    if inside or "image_sizes" in signature(module.forward).parameters:  # told sizes, it makes one row of all
        return None
    asked: int | list[int] | None = getattr(core.config, "vision_feature_layer", None)
    if asked is None:
        return Tower(module)
    if isinstance(asked, int):  # where it is -1, some families read the last state, others that of the last layer
        return Tower(module, [asked], last=asked == -1)
    return Tower(module, asked, last=False)


def varies(model: Any) -> bool:
    """Whether the tower or projector of a model in training gives other numbers from call to call."""
    return any(
        getattr(module, "track_running_stats", False) or any(map(_drops, vars(module).items()))
        for name, module in bare(model).named_modules()
        if owner(name) in ("vision_tower", "projector")
    )


def _drops(attribute: tuple[str, Any]) -> bool:
    """Whether an attribute is a share of numbers that are dropped, as all kinds of dropout call it."""
    name, value = attribute
    return isinstance(value, float) and value > 0 and ("drop" in name or name == "p")
