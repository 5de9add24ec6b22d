"""Examples as a model is fed them in tuning: rows of tokens in which what examples begin with in common stands once.

Tokens of a row are a forest, written depth first: a token sees the tokens on its way to the root, itself included, and
no other, and has the position it would have in its example alone. A model whose tokens see only what came before them
cannot tell the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from vlmend.models.attention import by_runs
from vlmend.models.codec import Batch
from vlmend.models.prompts import Prompt, bare

WORTH = 16  # tokens that texts without pictures have to have in common
ROW = 2048  # tokens of a row in which more than one example stands: what attention costs grows with the square
SAVED = 0.9  # of a batch's padded tokens; with more left than this, a mask of one's own does not pay
SHARING = frozenset({"sdpa", "eager", "flex_attention"})  # kinds of attention that take such a mask


@dataclass(frozen=True)
class Feed:
    """E examples as R rows of W tokens.

    place (E, T): where in the flattened rows token t of example e stands, 0 where it is padding.
    until (R, W): token i of a row is seen by tokens i to until[i] - 1, and by none but itself where it is padding: 0.
    None where attention is plainly causal.
    shown: the prompts whose pictures stand in the rows, in order; none where pictures are among the inputs.
    """

    inputs: dict[str, Tensor]
    place: Tensor
    until: Tensor | None = None
    shown: tuple[Prompt, ...] = ()

    def to(self, device: torch.device) -> Feed:
        """The same on another device; pictures go there when they are looked at."""
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        until = None if self.until is None else self.until.to(device)
        return replace(self, inputs=inputs, place=self.place.to(device), until=until)

    @property
    def tokens(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.inputs["input_ids"].numel()

    def visible(self, model: Any) -> Any:
        """The attention mask as the model's kind of attention takes it."""
        if self.until is None:
            return self.inputs["attention_mask"]
        return visible(self.until, attention_of(model), bare(model).dtype)


def plain(batch: Batch) -> Feed:
    """One padded row for each example, as the model's processor made it."""
    ids = batch.inputs["input_ids"]
    return Feed(batch.inputs, torch.arange(ids.numel(), device=ids.device).view_as(ids))


def attention_of(model: Any) -> str:
    """How the language model computes attention, as transformers calls it."""
    return bare(model).config.get_text_config()._attn_implementation


def visible(until: Tensor, attention: str, dtype: torch.dtype) -> Any:
    """(R, 1, W, W) which token (row) sees which (column)."""
    width = until.shape[1]
    if attention == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            del head
            return (key <= query) & ((query < until[row, key]) | (query == key))

        return create_block_mask(seen, until.shape[0], None, width, width, device=str(until.device))
    at = torch.arange(width, device=until.device)
    below = (at[None, :] <= at[:, None]) & (at[None, :, None] < until[:, None, :])
    mask = (below | (at[None, :] == at[:, None]))[:, None]
    if attention == "eager":  # which adds
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return by_runs(mask, until) if until.device.type == "cpu" else mask


def feed(prompts: Sequence[Prompt], pad_id: int, *, share: bool = True, pack: bool = True) -> Feed:
    """Prompts as few rows: what they begin with in common once (`share`), several to a row where they fit (`pack`)."""
    trees = list(forest(prompts, ROW)) if share else [_alone(i, p) for i, p in enumerate(prompts)]
    longest = max(len(p) for p in prompts)
    rows = _filled(trees) if pack else [[tree] for tree in trees]
    width = max(sum(map(len, row)) for row in rows)
    if len(rows) * width > SAVED * len(prompts) * longest:
        return _separate(prompts, pad_id)
    return _rows(prompts, rows, width, pad_id)


@dataclass
class Tree:
    """Examples written into one another. `places` (T,) of each example; `until` (W,), see Feed; `written`: for each
    run of tokens the example and the token it starts from."""

    until: Tensor
    places: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    written: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __len__(self) -> int:
        return len(self.until)

    def add(self, number: int, length: int, before: Tensor, shared: int) -> None:
        """Write an example of `length` tokens, of which the first `shared` are those of the example at `before`."""
        start = len(self)
        self.until[before[shared:]] = start  # nothing after this goes on from them
        self.until = torch.cat([self.until, self.until.new_empty(length - shared)])
        own = torch.arange(start, start + length - shared)
        self.places[number] = torch.cat([before[:shared], own])
        self.written.append((number, shared))

    def close(self, last: int) -> Tree:
        """What is still open ends here."""
        self.until[self.places[last]] = len(self)
        return self


def _empty() -> Tree:
    return Tree(torch.empty(0, dtype=torch.long))


def _alone(number: int, prompt: Prompt) -> Tree:
    tree = _empty()
    tree.add(number, len(prompt), torch.empty(0, dtype=torch.long), 0)
    return tree.close(number)


def forest(prompts: Sequence[Prompt], limit: int) -> Iterator[Tree]:
    """Trees of prompts that begin alike, none of more than `limit` tokens unless a prompt alone has more.

    Sorted by their tokens, what a prompt shares with any before it is what it shares with the last.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].shown, prompts[i].ids.tolist()))
    for _, group in groupby(order, key=lambda i: prompts[i].shown):
        tree, last = _empty(), -1
        for number in group:
            found = prompts[number]
            shared = _shared(prompts[last], found) if last >= 0 else 0
            if last >= 0 and (not shared or len(tree) + len(found) - shared > limit):
                yield tree.close(last)
                tree, shared = _empty(), 0
            before = tree.places[last] if tree.places else torch.empty(0, dtype=torch.long)
            tree.add(number, len(found), before, shared)
            last = number
        yield tree.close(last)


def _shared(one: Prompt, other: Prompt) -> int:
    """First tokens in common; 0 when that is not worth it, or cuts off a picture."""
    length = min(len(one), len(other))
    differs = one.ids[:length] != other.ids[:length]
    differs |= (one.positions[:, :length] != other.positions[:, :length]).any(dim=0)
    common = int(differs.nonzero()[0]) if bool(differs.any()) else length
    return common if common >= (one.pictured or WORTH) else 0


def _filled(trees: Sequence[Tree]) -> list[list[Tree]]:
    """Trees to rows no longer than the longest tree: each into the first row that has room, the long ones first."""
    room = max(map(len, trees))
    rows: list[list[Tree]] = []
    for tree in sorted(trees, key=len, reverse=True):
        row = next((row for row in rows if sum(map(len, row)) + len(tree) <= room), None)
        if row is None:
            rows.append(row := [])
        row.append(tree)
    return rows


def _rows(prompts: Sequence[Prompt], rows: Sequence[Sequence[Tree]], width: int, pad_id: int) -> Feed:
    axes = prompts[0].positions.shape[0]
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    positions = torch.zeros(axes, len(rows), width, dtype=torch.long)
    until = torch.zeros(len(rows), width, dtype=torch.long)
    place = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.long)
    shown: list[Prompt] = []
    for row, trees in enumerate(rows):
        start = 0
        for tree in trees:
            until[row, start : start + len(tree)] = tree.until + start
            for number, shared in tree.written:
                found = prompts[number]
                at = tree.places[number] + start
                ids[row, at[shared:]] = found.ids[shared:]
                positions[:, row, at[shared:]] = found.positions[:, shared:]
                place[number, : len(found)] = at + row * width
                if not shared and found.pictures:
                    shown.append(found)
            start += len(tree)
    return Feed({"input_ids": ids, "position_ids": _axes(positions)}, place, until, tuple(shown))


def _separate(prompts: Sequence[Prompt], pad_id: int) -> Feed:
    """A row of its own for each prompt, padded on the right, so that plain causal attention will do."""
    rows = [[_alone(i, p)] for i, p in enumerate(prompts)]
    fed = _rows(prompts, rows, max(map(len, prompts)), pad_id)
    assert fed.until is not None  # noqa: S101
    return replace(fed, inputs={**fed.inputs, "attention_mask": (fed.until > 0).long()}, until=None)


def _axes(positions: Tensor) -> Tensor:
    """(A, R, W) positions as models take them: without the axis where there is one."""
    return positions[0] if positions.shape[0] == 1 else positions
