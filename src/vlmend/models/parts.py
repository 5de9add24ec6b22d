"""Which parameters belong to the vision tower, the projector and the language model of any VLM in transformers.

Decided by the names that transformers gives to submodules, never by a model's name; a new name is added here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from vlmend.config import Module

NAMES: dict[Module, tuple[str, ...]] = {
    # the projector first: in Qwen-VL it lives inside the vision tower
    "projector": (
        "multi_modal_projector",
        "connector",
        "merger",
        "deepstack_merger_list",
        "embed_vision",
        "aligner",
        "image_newline",
    ),
    "vision_tower": ("vision_tower", "visual", "vision_model", "vision_encoder", "image_tower"),
    "language_model": ("language_model", "text_model", "lm_head"),
}

Owner = Module | Literal["other"]


def owner(parameter: str) -> Owner:
    """The part a parameter or module of this dotted name belongs to, or 'other'."""
    path = parameter.split(".")
    for module, names in NAMES.items():
        if any(name in path for name in names):
            return module
    return "other"


def outermost(model: nn.Module, *parts: Owner) -> list[str]:
    """Dotted names of the outermost modules that belong to these parts, of a list those in it."""
    tops: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{top}.") for top in tops)
        if owner(name) in parts and not inside and not isinstance(module, nn.ModuleList):
            tops.append(name)
    return tops


def language_linears(model: nn.Module) -> list[str]:
    """Dotted names of every linear layer inside the language model's blocks: LoRA's default targets.

    The output head is left out, as in peft's `all-linear`.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and owner(name) == "language_model" and not name.endswith("lm_head")
    ]


@dataclass(frozen=True)
class Trainable:
    """Parameters per part: how many there are, and how many are tuned."""

    total: Mapping[str, int]
    trained: Mapping[str, int]

    def rows(self) -> Iterator[tuple[str, int, int]]:
        """(part, trained, total) for every part that exists."""
        for part, total in self.total.items():
            yield part, self.trained.get(part, 0), total

    def as_dict(self) -> dict[str, dict[str, int]]:
        """For manifests."""
        return {part: {"trained": trained, "total": total} for part, trained, total in self.rows()}


def count(model: nn.Module) -> Trainable:
    """Count parameters by part. Shared parameters count once, and so does a module that peft tunes a copy of."""
    total: dict[str, int] = {}
    trained: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if "original_module" in name.split("."):
            continue
        part = owner(name)
        total[part] = total.get(part, 0) + parameter.numel()
        if parameter.requires_grad:
            trained[part] = trained.get(part, 0) + parameter.numel()
    return Trainable(total, trained)
