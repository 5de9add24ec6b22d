"""A model that is nothing but its logits, and batches of roles scored by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vlmend.ops.logprobs import IGNORE, answer_logps, places, predicting
from vlmend.ops.scored import Look, Scored, Spots, Totals, Vocabulary
from vlmend.types import Role

VOCABULARY, LENGTH, PROMPT = 7, 9, 3
LENGTHS = (5, 2, 4, 1, 3, 5)  # of answers, example by example


@dataclass
class Toy:
    """`logits` are the weights, one row of them for each example; hidden states are the logits times two."""

    logits: Tensor
    roles: tuple[Role, ...]

    @property
    def labels(self) -> Tensor:
        """Answers of different lengths after the prompt, padding behind them."""
        labels = torch.full((len(self.roles), LENGTH), IGNORE)
        for row in range(len(self.roles)):
            length = LENGTHS[row % len(LENGTHS)]
            labels[row, PROMPT : PROMPT + length] = torch.arange(row, row + length) % VOCABULARY
        return labels

    def score(self, look: Look | None = None, rows: Sequence[int] | None = None) -> Scored:
        """All rows, or some, with means over all."""
        kept = list(range(len(self.roles))) if rows is None else list(rows)
        labels, roles = self.labels[kept], tuple(self.roles[row] for row in kept)
        logps, owner = answer_logps(self.logits[kept], labels)
        spots = None
        if look:
            at = self._looked(look)[kept].nonzero(as_tuple=True)
            shown = self.logits[kept][at]
            spots = Spots(at[0], 2 * shown, Vocabulary(shown), values=valued(shown))
        return Scored(logps, owner, roles, torch.ones(len(kept)), self._totals(look), spots)

    def _looked(self, look: Look) -> Tensor:
        real = torch.zeros(len(self.roles), LENGTH, dtype=torch.long)
        for row in range(len(self.roles)):
            real[row, : PROMPT + LENGTHS[row % len(LENGTHS)]] = 1
        shifted = look.vocabulary and look.places == "answer"
        mask = (
            predicting(self.labels) if shifted else places(look.places, self.labels, real, torch.zeros_like(real) > 0)
        )
        return mask & torch.tensor([role in look.roles for role in self.roles])[:, None]

    def _totals(self, look: Look | None) -> Totals:
        counts = (self.labels != IGNORE).sum(1).tolist()
        looked = self._looked(look).sum(1).tolist() if look else [0] * len(counts)
        units: list[dict[Role, float]] = [{}, {}, {}]
        for role, tokens, spots in zip(self.roles, counts, looked, strict=True):
            for unit, count in zip(units, (tokens, 1, spots), strict=True):
                unit[role] = unit.get(role, 0.0) + count
        return Totals(*units)


def valued(shown: Tensor) -> Tensor:
    """(M, V) to (M,): the toy's head of one number."""
    return shown @ torch.linspace(-1.0, 2.0, VOCABULARY, dtype=shown.dtype)


MakeToy = Callable[..., Toy]


@pytest.fixture
def make_toy() -> MakeToy:
    """`make_toy(Role.FORGET, Role.RETAIN, seed=1)`."""

    def make(*roles: Role, seed: int = 0) -> Toy:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(len(roles), LENGTH, VOCABULARY, generator=generator)
        return Toy(logits.requires_grad_(), roles)

    return make


def moved(toy: Toy, by: float = 1.0, seed: int = 9) -> Toy:
    """The same batch under a model with other weights."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(toy.logits.shape, generator=generator)
    return Toy((toy.logits.detach() + by * noise).requires_grad_(), toy.roles)


def cross_entropy(toy: Toy, role: Role) -> float:
    """Token mean of one role by torch's own loss."""
    rows = [row for row, r in enumerate(toy.roles) if r is role]
    logits, labels = toy.logits.detach()[rows][:, :-1], toy.labels[rows][:, 1:]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE))
