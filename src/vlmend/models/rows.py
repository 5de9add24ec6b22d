"""Sequences that grow together through one model: fed in blocks of tokens, branched and thinned out between blocks.

Keys and values are written into room kept ahead. transformers' own cache copies all of them for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 128  # positions


class Block(NamedTuple):
    """Tokens to feed, one row each, padded on the left: ids (R, W), which are real (R, W), positions (A, R, W)."""

    ids: Tensor
    real: Tensor
    positions: Tensor


def left_padded(ids: Sequence[Tensor], positions: Sequence[Tensor], pad_id: int) -> Block:
    """Sequences (T,) and their positions (A, T) as one block."""
    width = max(len(row) for row in ids)
    blank = torch.full((len(ids), width), pad_id, dtype=torch.long)
    block = Block(blank, torch.zeros_like(blank), torch.zeros(positions[0].shape[0], len(ids), width, dtype=torch.long))
    for row, (tokens, places) in enumerate(zip(ids, positions, strict=True)):
        start = width - len(tokens)
        block.ids[row, start:] = tokens
        block.real[row, start:] = 1
        block.positions[:, row, start:] = places
    return block


class Rows:
    """Keys and values of a batch of sequences, and which positions of them are padding."""

    def __init__(self, model: Any, count: int) -> None:
        self._model = model
        self._cache: Any = DynamicCache(config=model.config)
        self._layers = [RoomyLayer() for _ in self._cache.layers]
        self._cache.layers = self._layers
        self._real = torch.zeros(count, 0, dtype=torch.long, device=model.device)

    def __len__(self) -> int:
        return int(self._real.shape[0])

    def feed(self, block: Block, pictures: Any = None, keep: int = 1) -> Tensor:
        """Append a block; the logits (R, keep, V) of its last positions. `pictures`: features of all its pictures."""
        block = Block(*(part.to(self._real.device) for part in block))
        self._real = torch.cat([self._real, block.real], dim=1)
        positions = block.positions[0] if block.positions.shape[0] == 1 else block.positions
        shown = {} if pictures is None else {"mm_encoder_outputs": {"image": pictures}}
        outputs = self._model(
            input_ids=block.ids, attention_mask=self._real, position_ids=positions, past_key_values=self._cache,
            use_cache=True, logits_to_keep=keep, **shown,
        )  # fmt: skip
        return outputs.logits[:, -keep:]

    def select(self, rows: Tensor) -> Rows:
        """These rows (each any number of times) as sequences of their own. Positions padded in all of them go."""
        picked = Rows(self._model, len(rows))
        rows = rows.to(self._real.device)
        picked._real = self._real[rows]
        used = picked._real.any(dim=0).nonzero()
        start = int(used[0]) if len(used) else 0
        picked._real = picked._real[:, start:]
        for old, new in zip(self._layers, picked._layers, strict=True):
            new.copy_from(old, rows, start)
        return picked


class RoomyLayer(DynamicLayer):
    """A layer of transformers' cache that copies what it holds every ROOM tokens instead of every token."""

    _length = 0
    _room: list[Tensor]  # keys and values (R, H, _length and more, D)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append; returns everything held."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = [key_states[:, :, :0], value_states[:, :, :0]]
        start, end = self._length, self._length + key_states.shape[-2]
        if end > self._room[0].shape[-2]:
            self._room = [_larger(held[:, :, :start], end + (ROOM if start else 0)) for held in self._room]
        for held, new in zip(self._room, (key_states, value_states), strict=True):
            held[:, :, start:end] = new
        return self._show(end)

    def copy_from(self, other: RoomyLayer, rows: Tensor, start: int) -> None:
        """Take over the given rows of another layer, from a position on."""
        self.lazy_initialization(*other._room)
        length = other._length - start
        self._room = [_larger(held[:, :, start : other._length][rows], length + ROOM) for held in other._room]
        self._show(length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values as the rest of transformers looks at them."""
        self._length = length
        keys, values = (held[:, :, :length] for held in self._room)
        self.keys, self.values = keys, values
        return keys, values


def _larger(held: Tensor, length: int) -> Tensor:
    """The same in a tensor that has room for `length` positions."""
    made = held.new_empty((*held.shape[:2], length, held.shape[3]))
    made[:, :, : held.shape[2]] = held
    return made


def whole_cache(model: Any) -> bool:
    """Whether every layer keeps all keys and values of the past: none has a window, a state, or another's keys."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
