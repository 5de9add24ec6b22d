"""Llama 4, and Llama Guard 4: its processor hands out pictures in bfloat16, whatever the model is held in.

In transformers 5.24.0 the model asks its language model for outputs of pictures, which only the model itself has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmend.models.family import Family


@dataclass(frozen=True)
class Llama4(Family):
    """No settings."""

    def prepare(self, model: Any) -> None:
        """Have the vision tower take pictures in the type of its weights, and the model find no outputs of pictures."""

        def cast(tower: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            dtype = tower.patch_embedding.linear.weight.dtype
            return (
                tuple(a.to(dtype) if hasattr(a, "to") else a for a in args),
                {**named, "pixel_values": named["pixel_values"].to(dtype)} if "pixel_values" in named else named,
            )

        def complete(language: Any, args: tuple[Any, ...], output: Any) -> None:
            del language, args
            if not isinstance(output, tuple) and not hasattr(output, "image_outputs"):
                output.image_outputs = None

        model.vision_model.register_forward_pre_hook(cast, with_kwargs=True)
        model.language_model.register_forward_hook(complete)


plugin = Llama4
