"""Ascent with the retained answers held by KL divergence."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.conftest import MakeToy, cross_entropy, moved
from tests.objectives.laws import check_split, gradient, loss_of
from vlmend.objectives.kl import Kl
from vlmend.types import Role

ROLES = (Role.FORGET, Role.RETAIN, Role.RETAIN)


def test_at_the_start_it_is_ascent_and_its_retain_part_is_flat(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    loss = loss_of(Kl(), toy)
    assert loss.parts["retain"].item() == pytest.approx(0.0, abs=1e-6)
    assert loss.total.item() == pytest.approx(-cross_entropy(toy, Role.FORGET))
    assert gradient(Kl(), toy)[1:].abs().max() < 1e-6


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_the_retain_part_is_the_mean_divergence_at_its_positions(make_toy: MakeToy, positions: str) -> None:
    toy = make_toy(*ROLES)
    before = moved(toy)
    now, old = (t.logits.detach()[1:].log_softmax(-1) for t in (toy, before))
    everywhere = (old.exp() * (old - now)).sum(-1)
    predicts = torch.zeros_like(everywhere, dtype=torch.bool)
    predicts[:, :-1] = toy.labels[1:, 1:] != -100
    expected = everywhere.mean() if positions == "all" else everywhere[predicts].mean()
    found = loss_of(Kl(alpha=3.0, positions=positions), toy, before)  # type: ignore[arg-type]
    assert found.parts["retain"].item() == pytest.approx(3 * expected.item(), rel=1e-5)
    check_split(Kl(positions=positions), toy)  # type: ignore[arg-type]


def test_the_direction_is_from_the_reference(make_toy: MakeToy) -> None:
    """KL(pi_0 || pi) punishes what the reference said and the model no longer does, not the other way round."""
    toy = make_toy(Role.FORGET, Role.RETAIN)
    sure = moved(toy, 0.0)
    with torch.no_grad():
        sure.logits[1, :, 0] += 8.0
    unsure = moved(toy, 0.0)
    with torch.no_grad():
        unsure.logits[1] = 0.0
    forward = loss_of(Kl(), unsure, sure).parts["retain"]  # log V at most
    backward = loss_of(Kl(), sure, unsure).parts["retain"]  # grows with the certainty
    assert forward < 2.0 < backward
