"""TRL's preference losses on the same log-probabilities: values and gradients."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-peers PEERS=trl")

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # its warning of a changing interface would be an error here

import torch
from torch import Tensor
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from vlmend.ops.preference import log_odds, preferred

BETA = 0.3
CHOSEN, REJECTED = [-0.7, -2.0, -0.1, -5.0], [-1.1, -0.4, -0.3, -4.0]


def theirs(kind: str, chosen: Tensor, rejected: Tensor, smoothing: float = 0.0) -> Tensor:
    trainer: Any = SimpleNamespace(
        beta=BETA, alpha=0.0, loss_type=kind, simpo_gamma=0.7, label_smoothing=smoothing,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    if kind == "orpo":
        return -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0]
    return CPOTrainer.cpo_loss(trainer, chosen, rejected)[0]


def ours(kind: str, chosen: Tensor, rejected: Tensor, smoothing: float = 0.0) -> Tensor:
    margin = chosen - rejected
    return {
        "sigmoid": lambda: preferred(BETA * margin, smoothing),
        "simpo": lambda: preferred(BETA * margin - 0.7, smoothing),
        "ipo": lambda: (margin - 1 / (2 * BETA)) ** 2,
        "orpo": lambda: BETA * preferred(log_odds(chosen) - log_odds(rejected)),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.2), ("simpo", 0.0), ("ipo", 0.0), ("orpo", 0.0)]
)
def test_terms_are_theirs(kind: str, smoothing: float) -> None:
    found: list[Tensor] = []
    for loss in (ours, theirs):
        sides = [torch.tensor(side, requires_grad=True) for side in (CHOSEN, REJECTED)]
        values = loss(kind, sides[0], sides[1], smoothing)
        found.append(torch.cat([values.detach(), *torch.autograd.grad(values.sum(), sides)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
