"""What a frozen vision tower makes of pictures, computed once per picture and kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from vlmend.models.prompts import Prompt, bare


class Features:
    """Vision features by content hash of a prompt's pictures; the least recently used go beyond `limit` bytes."""

    def __init__(self, model: Any, method: str, limit: int) -> None:
        self._model = model
        self._encode = _method(bare(model), method)
        self._takes = signature(self._encode).parameters
        self._limit = limit
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._held = 0

    def __call__(self, prompts: Sequence[Prompt]) -> Any:
        """One output for the pictures of all prompts, in order; None when there is no picture."""
        shown = [p for p in prompts if p.pictures]
        if not shown:
            return None
        found: dict[tuple[str, ...], Any] = {p.shown: self._kept[p.shown] for p in shown if p.shown in self._kept}
        fresh = {p.shown: p for p in shown if p.shown not in found}
        for _, alike in groupby(fresh.values(), key=_shape):
            found.update(self._fresh(list(alike)))
        for key, output in found.items():
            self._keep(key, output)
        return _joined([found[p.shown] for p in shown])

    def _fresh(self, prompts: list[Prompt]) -> dict[tuple[str, ...], Any]:
        """Features of prompts whose picture inputs have the same shapes: in one call, where its output can be split."""
        device = self._model.device
        inputs = {
            name: torch.cat([p.pictures[name] for p in prompts]).to(device)
            for name in prompts[0].pictures
            if name in self._takes
        }
        output = self._encode(**inputs)
        if len(prompts) == 1:
            return {prompts[0].shown: _part(output, slice(None))}
        parts = _split(output, len(prompts))
        if [_length(part) for part in parts] != [p.pieces for p in prompts]:
            return {p.shown: self._fresh([p])[p.shown] for p in prompts}
        return {p.shown: part for p, part in zip(prompts, parts, strict=True)}

    def _keep(self, key: tuple[str, ...], output: Any) -> None:
        if key not in self._kept:
            self._held += _bytes(output)
        self._kept[key] = output
        self._kept.move_to_end(key)
        while self._held > self._limit and self._kept:
            _, gone = self._kept.popitem(last=False)
            self._held -= _bytes(gone)


def _method(model: Any, name: str) -> Any:
    """The method as the model's own forward calls it: that of the part without a language head, where it is there."""
    inner = getattr(model, "model", None)
    return getattr(inner if hasattr(inner, name) else model, name)


def _shape(prompt: Prompt) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in sorted(prompt.pictures.items())]


def _split(output: Any, count: int) -> list[Any]:
    """An output as `count` outputs of equal shares."""
    step = len(output["pooler_output"]) // count
    return [_part(output, slice(i * step, (i + 1) * step)) for i in range(count)]


def _part(output: Any, some: slice) -> Any:
    """The entries of some pictures, without a hold on those of others."""
    fields: dict[str, Any] = {"pooler_output": _copy(output["pooler_output"][some])}
    if layers := output.get("deepstack_features"):
        fields["deepstack_features"] = [_copy(layer[some]) for layer in layers]
    return type(output)(**fields)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else [entry.clone() for entry in value]


def _length(output: Any) -> int:
    """How many picture tokens the features of an output stand for."""
    return sum(t.numel() // t.shape[-1] for t in _tensors(output["pooler_output"]))


def _joined(outputs: Sequence[Any]) -> Any:
    joined: dict[str, Any] = {"pooler_output": _concatenated([o["pooler_output"] for o in outputs])}
    if outputs[0].get("deepstack_features"):
        layers = zip(*(o["deepstack_features"] for o in outputs), strict=True)
        joined["deepstack_features"] = [_concatenated(layer) for layer in layers]
    return type(outputs[0])(**joined)


def _concatenated(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    return [entry for value in values for entry in value]


def _bytes(output: Any) -> int:
    return sum(t.nbytes for t in _tensors(list(output.values())))


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [t for item in value for t in _tensors(item)]
