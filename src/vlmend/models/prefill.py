"""What prompts begin with, fed once: the shared beginning of each group, then what each prompt adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlmend.models.features import Features
from vlmend.models.prompts import Prompt, shared_length
from vlmend.models.rows import Rows, left_padded

WORTH = 64  # tokens that have to be saved for a second call of the model to pay


def prefill(
    model: Any, features: Features, groups: Sequence[Sequence[Prompt]], pad_id: int, *, share: bool, keep: int = 1
) -> tuple[Rows, Tensor]:
    """Feed prompts, one row each in order; also the logits (R, keep, V) of their last tokens.

    Prompts of a group show the same pictures, if any, and may begin alike.
    """
    prompts = [p for group in groups for p in group]
    lengths = [shared_length(group) if share else 0 for group in groups]
    saved = sum(length * (len(group) - 1) for length, group in zip(lengths, groups, strict=True))
    if saved < WORTH or not all(lengths):
        rows = Rows(model, len(prompts))
        block = left_padded([p.ids for p in prompts], [p.positions for p in prompts], pad_id)
        return rows, rows.feed(block, features(prompts), keep)
    heads = [group[0] for group in groups]
    rows = Rows(model, len(heads))
    cut = list(zip(heads, lengths, strict=True))
    block = left_padded([p.ids[:n] for p, n in cut], [p.positions[:, :n] for p, n in cut], pad_id)
    rows.feed(block, features(heads))
    rows = rows.select(torch.tensor([i for i, group in enumerate(groups) for _ in group]))
    rest = [(p, n) for group, n in zip(groups, lengths, strict=True) for p in group]
    block = left_padded([p.ids[n:] for p, n in rest], [p.positions[:, n:] for p, n in rest], pad_id)
    return rows, rows.feed(block, keep=keep)
