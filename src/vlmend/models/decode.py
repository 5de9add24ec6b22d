"""From logits to answers: choose a token for each row, drop rows that ended, go on with the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlmend.errors import ConfigError
from vlmend.models.rows import Block, Rows
from vlmend.reasoning import check_budget
from vlmend.types import Decoding, Example, conversation_key, digest

THIN_OUT = 0.75  # rows that ended leave the batch when no more than this share of it is left


UNKNOWN = -1  # in place of a token where the model gave no distribution
NOT_FINITE = "the model's logits are not finite (NaN or infinity), so that there is nothing to choose from"


class Wanted(NamedTuple):
    """One answer that is asked for: the example's prompt, and the number of the answer to it."""

    example: Example
    sample: int


def check(decoding: Decoding) -> None:
    """Raises ConfigError for settings that exclude each other."""
    check_budget(decoding)
    if decoding.do_sample and decoding.num_beams > 1:
        raise ConfigError("do_sample and num_beams > 1 exclude each other")
    if decoding.num_return_sequences > 1 and not decoding.do_sample:
        raise ConfigError(
            f"num_return_sequences {decoding.num_return_sequences} needs do_sample: without it all answers to a prompt"
            " are the same"
        )


class Chooser:
    """Chooses each row's next token: the likeliest, or a draw from the softmax after temperature, top-k and top-p.

    Draws invert the cumulative distribution at numbers seeded by conversation and sample, so that an answer depends
    neither on its neighbors in the batch nor on where a killed run went on. `banned` tokens are never drawn.
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        decoding: Decoding,
        eos_ids: frozenset[int],
        banned: frozenset[int] = frozenset(),
    ) -> None:
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self._decoding = decoding
        self._eos = torch.tensor(sorted(eos_ids))
        self._banned = torch.tensor(sorted(banned), dtype=torch.long)
        self._draws = _uniforms(wanted, decoding) if decoding.do_sample else torch.empty(0)
        self._warpers: list[Any] = []
        if decoding.temperature != 1.0:
            self._warpers.append(TemperatureLogitsWarper(decoding.temperature))
        if decoding.top_k:
            self._warpers.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1.0:
            self._warpers.append(TopPLogitsWarper(decoding.top_p))

    def __call__(self, scores: Tensor, step: int, rows: Sequence[int], before: Sequence[Tensor]) -> Tensor:
        """Tokens (R,) for scores (R, V): of which rows they are, and (where penalties need it) the tokens before.

        UNKNOWN where the scores make no distribution.
        """
        lost = undefined(scores)
        scores = scores.to(torch.float32, copy=True)
        if self.looks_back:
            scores = torch.cat([self._penalized(s[None], b[None]) for s, b in zip(scores, before, strict=True)])
        if step < self._decoding.min_new_tokens:
            scores[:, self._eos.to(scores.device)] = -torch.inf
        chosen = self.draw(scores, step, rows) if self._decoding.do_sample else scores.argmax(dim=-1)
        return chosen.masked_fill(lost, UNKNOWN)

    @property
    def looks_back(self) -> bool:
        """Whether the tokens before decide about the next one, other than through the model."""
        return self._decoding.repetition_penalty != 1.0 or self._decoding.no_repeat_ngram_size > 0

    def draw(self, scores: Tensor, step: int, rows: Sequence[int]) -> Tensor:
        """One token per row from the softmax of its scores, after temperature, top-k and top-p."""
        if len(self._banned):
            scores = scores.index_fill(1, self._banned.to(scores.device), -torch.inf)
        for warp in self._warpers:
            scores = warp(None, scores)
        exact = scores if knows_float64(scores.device) else scores.cpu()
        reached = exact.double().softmax(dim=-1).cumsum(dim=-1)
        aims = self._draws[list(rows), step, None].to(reached) * reached[:, -1:]
        found = torch.searchsorted(reached, aims, right=True)[:, 0].clamp(max=scores.shape[1] - 1)
        return found.to(scores.device)

    def _penalized(self, scores: Tensor, before: Tensor) -> Tensor:
        """One row at a time: padding must not count as said before."""
        from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

        steps: list[Any] = []
        if self._decoding.repetition_penalty != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(self._decoding.repetition_penalty))
        if self._decoding.no_repeat_ngram_size:
            steps.append(NoRepeatNGramLogitsProcessor(self._decoding.no_repeat_ngram_size))
        for step in steps:
            scores = step(before.to(scores.device), scores)
        return scores


def undefined(logits: Tensor) -> Tensor:
    """(...) whether logits (..., V) make no distribution: one is NaN or plus infinity, or all are minus infinity."""
    return ~logits.amax(dim=-1).isfinite()


@cache
def knows_float64(device: torch.device) -> bool:
    """Whether a device computes in double precision; Apple's do not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def _uniforms(wanted: Sequence[Wanted], decoding: Decoding) -> Tensor:
    """(R, max_new_tokens) numbers in [0, 1), each row's own."""
    made: list[Tensor] = []
    for example, sample in wanted:
        seed = int(digest(decoding.seed, conversation_key(example.prompt), sample)[:15], 16)
        generator = torch.Generator().manual_seed(seed)
        made.append(torch.rand(decoding.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(made)


End = Callable[
    [Sequence[int]], Sequence[int]
]  # the tokens that end the reasoning an answer is in; none where it is not


def never(said: Sequence[int]) -> Sequence[int]:
    """Leaves all reasoning alone."""
    del said
    return ()


@dataclass
class Hurry:
    """What rows are made to say in place of what they chose, from the step on at which their thinking has to end."""

    budget: int
    end: End
    _left: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def __call__(self, row: int, said: Sequence[int], chosen: int) -> int:
        """The next token of a row that has said so much."""
        if self.budget and len(said) == self.budget:
            self._left[row] = list(self.end(said))
        left = self._left.get(row)
        return left.pop(0) if left and chosen != UNKNOWN else chosen


def answers(
    rows: Rows, logits: Tensor, prompts: Sequence[tuple[Tensor, Tensor]], choose: Chooser, decoding: Decoding,
    eos_ids: frozenset[int], end: End = never,
) -> list[list[int] | None]:  # fmt: skip
    """Token ids of each row's answer, its end token included; None where the model gave no distribution on the way.

    logits (R, V) follow the prompts, of which ids (T,) and positions (A, T) are given. `end` is asked at the end of the
    budget for thinking.
    """
    hurry = Hurry(decoding.thinking_budget, end)
    said: list[list[int]] = [[] for _ in prompts]
    at = torch.stack([places[:, -1] for _, places in prompts], dim=1)  # (A, R)
    live = list(range(len(prompts)))  # the row of each line of `rows`
    ends = eos_ids | {UNKNOWN}
    for step in range(decoding.max_new_tokens):
        before = [
            torch.cat([prompts[i][0], torch.tensor(said[i], dtype=torch.long)]) for i in live if choose.looks_back
        ]
        chosen = choose(logits, step, live, before)
        for line, (row, token) in enumerate(zip(live, chosen.tolist(), strict=True)):
            if not (said[row] and said[row][-1] in ends):
                said[row].append(hurry(row, said[row], token))
                chosen[line] = said[row][-1]
        going = [line for line, row in enumerate(live) if said[row][-1] not in ends]
        if not going or step + 1 == decoding.max_new_tokens:
            break
        if len(going) <= THIN_OUT * len(live):
            kept = torch.tensor(going)
            rows, chosen, live = rows.select(kept), chosen[kept.to(chosen.device)], [live[line] for line in going]
        places = (at[:, live] + step + 1)[..., None]
        logits = rows.feed(Block(chosen[:, None].clamp(min=0), torch.ones(len(live), 1, dtype=torch.long), places))[
            :, -1
        ]
    return [None if ids[-1] == UNKNOWN else ids for ids in said]
