"""TRL's preference losses, and its whole trainers on the same batch: values and gradients."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-peers PEERS=trl")

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # its warning of a changing interface would be an error here

import torch
from torch import Tensor
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from tests.peers.known import KNOWN
from tests.peers.trainers import DPO, KTO
from vlmend.objectives.dpo import Dpo
from vlmend.objectives.ipo import Ipo
from vlmend.objectives.kto import Kto
from vlmend.ops.preference import log_odds, preferred
from vlmend.ops.scored import Scored, Totals
from vlmend.types import Role

pytest_plugins = ("tests.peers.trainers",)

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


def scored(model: Any, inputs: dict[str, Any], roles: list[Role]) -> Scored:
    """What our loop would make of a batch of TRL's: by transformers alone, token by token."""
    skipped = {"completion_mask", "label"}
    logits = model(**{k: v for k, v in inputs.items() if k not in skipped and not k.startswith("KL_")}).logits
    logps = logits[:, :-1].log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
    rows, positions = inputs["completion_mask"][:, 1:].nonzero(as_tuple=True)
    tokens, examples = (Counter(roles[i] for i in some) for some in (rows.tolist(), range(len(roles))))
    return Scored(logps[rows, positions], rows, tuple(roles), torch.ones(len(roles)), Totals(tokens, examples))


def both(trainer: Any, roles: list[Role], objective: Any) -> None:
    """Loss and gradients of TRL's trainer and of our objective, of a model that has moved from where it began."""
    model = trainer.model.eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    inputs = next(iter(trainer.get_train_dataloader()))
    if not roles:
        roles = [Role.SAFETY if wanted else Role.FORGET for wanted in inputs["label"].tolist()]
    # towards all answers, whatever is asked
    away = torch.autograd.grad(scored(model, inputs, roles).logps.mean(), trained, materialize_grads=True)
    length = torch.stack([g.norm() for g in away]).norm()
    with torch.no_grad():
        for p, g in zip(trained, away, strict=True):
            p.add_(2.0 * g / length)
    found: list[tuple[Tensor, tuple[Tensor, ...]]] = []
    theirs = trainer.compute_loss(model, inputs)
    found.append((theirs.detach(), torch.autograd.grad(theirs, trained, materialize_grads=True)))
    with torch.no_grad():
        before = scored(trainer.ref_model, inputs, roles)
    policy = scored(model, inputs, roles)
    if "KL_input_ids" in inputs:
        (point,) = trainer._metrics["eval"]["kl"]  # of answers put to other prompts, as they log it
        assert point > 0.01
        policy = replace(policy, totals=replace(policy.totals, surveyed={"ratio": point}))
    ours = objective(policy, before).total
    found.append((ours.detach(), torch.autograd.grad(ours, trained, materialize_grads=True)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
    scale = max(float(g.abs().max()) for g in found[0][1])
    assert scale > 1e-4
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        ({"loss_type": ["sigmoid"]}, Dpo(beta=BETA)),
        ({"loss_type": ["sigmoid_norm"]}, Dpo(beta=BETA, length_normalized=True)),
        ({"loss_type": ["ipo"]}, Ipo(beta=BETA, length_normalized=True)),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.4]}, Dpo(beta=BETA, sft=0.4)),
    ],
    ids=["dpo", "dpo, length_normalized", "ipo, length_normalized", "dpo and sft"],
)
def test_the_whole_trainer_on_pairs_with_pictures(made: Any, settings: dict[str, Any], objective: Any) -> None:
    trainer = made(DPO, "trl", "absolute", "pairs", beta=BETA, **settings)
    half = len(KNOWN["pairs"])
    both(trainer, [Role.SAFETY] * half + [Role.FORGET] * half, objective)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 0.5)])
def test_the_whole_trainer_on_feedback(made: Any, weights: tuple[float, float]) -> None:
    """Given the reference point that TRL finds on answers put to other prompts, which costs it a pass of each."""
    trainer = made(
        KTO, "trl", "absolute", "feedback", beta=BETA, desirable_weight=weights[0], undesirable_weight=weights[1]
    )
    both(trainer, [], Kto(beta=BETA, desirable=weights[0], undesirable=weights[1]))
