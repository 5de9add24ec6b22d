"""Attention in rows that hold a forest (see `prefix`), run by run: no work for what a mask would only hide.

A dense mask lets every token compute with every other and throws most of it away. On a CPU it pays to take the runs of
a row one by one, each with the keys and values of the runs it goes on from; on a GPU, which likes few large calls, a
mask does better.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

RUNS = "vlmend_runs"  # attribute of a mask
# Up to so many keys, plain products take less time than flash attention, forward and backward on a CPU together
# (torch 2.15, heads of 32 to 128): of 40, 100 and 200 keys 28, 56 and 93 % of it in bfloat16, and of up to 1600 a third
# or less in float16. In float32, and where no gradient is asked for, flash attention is never much the slower one.
PLAIN = {torch.bfloat16: 256, torch.float16: 2048}


class Run(NamedTuple):
    """Tokens [start, end) of a row, one after the other, and the runs before them that they go on from, by number."""

    start: int
    end: int
    after: tuple[int, ...]


def runs(until: Sequence[int]) -> list[Run]:
    """The runs of a row, given until where each token is seen (0 where it is padding, at the end)."""
    found: list[Run] = []
    open_: list[int] = []
    at, width = 0, len(until)
    while at < width and until[at]:
        end = at + 1
        while end < width and until[end] == until[at]:
            end += 1
        while open_ and until[found[open_[-1]].start] <= at:
            open_.pop()
        found.append(Run(at, end, tuple(open_)))
        open_.append(len(found) - 1)
        at = end
    return found


def by_runs(mask: Tensor, until: Tensor) -> Tensor:
    """The same mask, to be attended run by run where that is understood."""
    setattr(mask, RUNS, [runs(row) for row in until.tolist()])
    return mask


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **settings: Any
) -> tuple[Tensor, None]:
    """transformers' sdpa attention; for a mask with runs, run by run. query (R, H, W, d) gives (R, W, H, d)."""
    rows: list[list[Run]] | None = getattr(attention_mask, RUNS, None)
    if rows is None:
        with kernel(query, key, value):
            return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    found = [
        _row(module, [t[row : row + 1] for t in (query, key, value)], own, settings) for row, own in enumerate(rows)
    ]
    return torch.cat(found), None


def kernel(query: Tensor, key: Tensor, value: Tensor) -> AbstractContextManager[object]:
    """What to compute attention under, so that torch takes the faster way; mostly, that is torch's own choice."""
    if query.device.type != "cpu" or not torch.is_grad_enabled():
        return nullcontext()
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    learns = query.requires_grad or key.requires_grad or value.requires_grad
    plain = learns and key.shape[2] <= PLAIN.get(dtype, 0)
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _row(module: torch.nn.Module, given: Sequence[Tensor], own: Sequence[Run], settings: dict[str, Any]) -> Tensor:
    width = given[0].shape[2]
    sizes = [run.end - run.start for run in own]
    queries, keys, values = (t.split([*sizes, width - sum(sizes)], dim=2) for t in given)
    pieces: list[Tensor] = []
    for number, run in enumerate(own):
        path = (*run.after, number)
        before = sum(sizes[i] for i in run.after)
        k, v = (part[number] if not run.after else torch.cat([part[i] for i in path], dim=2) for part in (keys, values))
        mask = _below(sizes[number], before, k.device) if run.after else None
        with kernel(queries[number], k, v):
            pieces.append(sdpa_attention_forward(module, queries[number], k, v, mask, **settings)[0])
    blank = queries[-1].new_zeros(1, queries[-1].shape[2], queries[-1].shape[1], values[-1].shape[3])
    return torch.cat([*pieces, blank], dim=1)


def _below(count: int, before: int, device: torch.device) -> Tensor:
    """(1, 1, count, before + count) each token sees all `before` and its own up to itself."""
    return torch.ones(count, before + count, dtype=torch.bool, device=device).tril(before)[None, None]


AttentionInterface.register("sdpa", attend)
