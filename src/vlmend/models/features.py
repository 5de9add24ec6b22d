"""What a model makes of pictures, with what of it never changes computed once per picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from vlmend.models.kept import Entry, Kept, Key
from vlmend.models.parts import Owner, owner
from vlmend.models.prompts import Prompt, bare
from vlmend.models.tower import Tower

POOLED, DEEP = "pooler_output", "deepstack_features"


@dataclass(frozen=True)
class Output:
    """What models read of their own output: embeddings of all pictures, or of each, and those of other depths."""

    pooler_output: Any
    deepstack_features: Any = None

    def to_tuple(self) -> tuple[Any, ...]:
        """What is there, in order: how models write an output of theirs into the one around it."""
        return tuple(value for value in (self.pooler_output, self.deepstack_features) if value is not None)


class Features:
    """Vision features by content hash of a prompt's pictures.

    What goes into `kept` is what comes out of the projector, or, given the `tower`, what goes into it: then the
    projector runs each time, with its gradient, and the tower never has one. What is trained is not kept. `alone` looks
    at one prompt at a time, so that what is kept has the same bits whatever it was first shown beside.
    """

    def __init__(self, model: Any, method: str, kept: Kept, tower: Tower | None = None, *, alone: bool = False) -> None:
        self.kept = kept
        self._model = model
        self._encode = _method(bare(model), method)
        self._takes = signature(self._encode).parameters
        self._tower = tower
        self._alone = alone
        self._learns = trains(model, "vision_tower", "projector")

    def __call__(self, prompts: Sequence[Prompt]) -> Output | None:
        """One output for the pictures of all prompts, in order; None when there is no picture."""
        shown = [p for p in prompts if p.pictures]
        if not shown:
            return None
        outputs: dict[Key, Output] = {}
        for alike in self._alike({p.shown: p for p in shown}):
            known = {p.shown: entry for p in alike if (entry := self.kept.get(p.shown)) is not None}
            outputs |= self._again([p for p in alike if p.shown in known], known)
            outputs |= self._fresh([p for p in alike if p.shown not in known])
        return _joined([outputs[p.shown] for p in shown])

    def _alike(self, prompts: Mapping[Key, Prompt]) -> Iterator[list[Prompt]]:
        """Prompts that may go through in one call. With a tower, it has to be plain how many tiles each has."""
        for _, group in groupby(prompts.values(), key=_shape):
            alike = list(group)
            plain = not self._alone and (self._tower is None or all(len(p.shown) == 1 for p in alike))
            yield from [alike] if plain else [[p] for p in alike]

    def _again(self, prompts: list[Prompt], known: Mapping[Key, Entry]) -> dict[Key, Output]:
        """Outputs of prompts whose entries are known."""
        if self._tower is None:
            return {p.shown: _output(known[p.shown], self._model.device) for p in prompts}
        if not prompts:
            return {}
        entries = [known[p.shown] for p in prompts]
        joined = {name: torch.cat([e[name] for e in entries]).to(self._model.device) for name in entries[0]}
        with self._tower.giving(joined):
            parts = self._parts(prompts)
        if parts is None:
            return {key: found for p in prompts for key, found in self._again([p], known).items()}
        return parts

    def _fresh(self, prompts: list[Prompt]) -> dict[Key, Output]:
        """Outputs of prompts seen for the first time: in one call, where what comes of it can be split."""
        if not prompts:
            return {}
        nothing: list[Entry] = []
        keeping: AbstractContextManager[list[Entry]] = self._tower.keeping() if self._tower else nullcontext(nothing)
        with keeping as seen:
            parts = self._parts(prompts)
        entries = None if parts is None else self._entries(parts, seen)
        if parts is None or entries is None:
            return {key: found for p in prompts for key, found in self._fresh([p]).items()}
        for key, entry in entries.items():
            self.kept.put(key, entry)
        return parts

    def _entries(self, parts: Mapping[Key, Output], seen: list[Entry]) -> Mapping[Key, Entry] | None:
        """What is to be kept of prompts; None when what the tower gave cannot be split."""
        if self._tower is not None:
            shares = _shares(seen[0], len(parts))
            return None if shares is None else dict(zip(parts, shares, strict=True))
        return {} if self._learns else {key: _entry(output) for key, output in parts.items()}

    def _parts(self, prompts: list[Prompt]) -> dict[Key, Output] | None:
        """Outputs of prompts whose picture inputs have the same shapes, from one call; None when it cannot be split."""
        device = self._model.device
        inputs = {
            name: torch.cat([p.pictures[name] for p in prompts]).to(device)
            for name in prompts[0].pictures
            if name in self._takes
        }
        with nullcontext() if self._learns else torch.no_grad():
            output = self._encode(**inputs)
            step = len(output.pooler_output) // len(prompts)
            parts = [_part(output, slice(i * step, (i + 1) * step)) for i in range(len(prompts))]
        if len(prompts) > 1 and [_length(part) for part in parts] != [p.pieces for p in prompts]:
            return None
        return {p.shown: part for p, part in zip(prompts, parts, strict=True)}


def trains(model: Any, *parts: Owner) -> bool:
    """Whether anything that belongs to these parts is trained."""
    return any(p.requires_grad for name, p in model.named_parameters() if owner(name) in parts)


def _method(model: Any, name: str) -> Any:
    """The method as the model's own forward calls it: that of the part without a language head, where it is there."""
    inner = getattr(model, "model", None)
    return getattr(inner if hasattr(inner, name) else model, name)


def _shape(prompt: Prompt) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in sorted(prompt.pictures.items())]


def _part(output: Any, some: slice) -> Output:
    """The entries of some pictures, without a hold on those of others."""
    layers = output.get(DEEP)
    return Output(_copy(output[POOLED][some]), [_copy(layer[some]) for layer in layers] if layers else None)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else [entry.clone() for entry in value]


def _length(output: Output) -> int:
    """How many picture tokens the features of an output stand for."""
    return sum(t.numel() // t.shape[-1] for t in _named(output.pooler_output, "").values())


def _joined(outputs: Sequence[Output]) -> Output:
    deep = [o.deepstack_features for o in outputs if o.deepstack_features]
    layers = [_concatenated(layer) for layer in zip(*deep, strict=True)] if deep else None
    return Output(_concatenated([o.pooler_output for o in outputs]), layers)


def _concatenated(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    return [entry for value in values for entry in value]


def _shares(entry: Entry, count: int) -> list[Entry] | None:
    """An entry as `count` of equally many rows, without a hold on one another; None when they do not come out even."""
    rows = {len(tensor) for tensor in entry.values()}
    if len(rows) != 1 or (step := rows.pop()) % count:
        return None
    step //= count
    return [{name: t[i * step : (i + 1) * step].clone() for name, t in entry.items()} for i in range(count)]


def _entry(output: Output) -> Entry:
    return {**_named(output.pooler_output, POOLED), **_named(output.deepstack_features or [], DEEP)}


def _named(value: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a nested list, named by the way to them."""
    if isinstance(value, Tensor):
        return {name: value}
    return {n: tensor for i, item in enumerate(value) for n, tensor in _named(item, f"{name}.{i}").items()}


def _output(entry: Entry, device: torch.device) -> Output:
    """What `_entry` made an entry of."""
    tree: dict[str, Any] = {}
    for name, tensor in entry.items():
        *way, last = name.split(".")
        node = tree
        for step in way:
            node = node.setdefault(step, {})
        node[last] = tensor.to(device)
    return Output(_listed(tree[POOLED]), _listed(tree.get(DEEP)))


def _listed(node: Any) -> Any:
    return [_listed(item) for item in node.values()] if isinstance(node, dict) else node
