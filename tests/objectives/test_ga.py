"""Gradient ascent: minus the cross-entropy, and its options that bound it."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.conftest import MakeToy, cross_entropy
from tests.objectives.laws import answers, check_split, gradient, loss_of, stepped
from vlmend.objectives.ga import Ga
from vlmend.types import Role

ROLES = (Role.FORGET, Role.FORGET, Role.RETAIN)


def test_it_is_minus_the_cross_entropy_of_what_is_forgotten(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    assert loss_of(Ga(), toy).total.item() == pytest.approx(-cross_entropy(toy, Role.FORGET))
    assert loss_of(Ga(gamma=2.0), toy).total.item() == pytest.approx(-2 * cross_entropy(toy, Role.FORGET))
    check_split(Ga(), toy)


def test_what_is_forgotten_becomes_unlikely_and_nothing_else_moves(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    after = answers(stepped(Ga(), toy)) - answers(toy)
    assert (after[:2] < 0).all()
    assert after[2] == 0


def test_a_floor_leaves_tokens_alone_that_are_unlikely_enough(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    logps = toy.score().only(Role.FORGET).logps
    floor = -logps.median().item()
    pushed = gradient(Ga(floor=floor), toy).abs().sum(-1) > 0
    assert int(pushed.sum()) == int((logps > -floor).sum()) < len(logps)
    assert torch.equal(gradient(Ga(floor=100.0), toy), gradient(Ga(), toy))


def test_it_says_when_to_stop_by_nats_per_token(make_toy: MakeToy) -> None:
    parts = {"forget": -2 * 3.5}  # gamma 2, cross-entropy 3.5
    assert Ga(gamma=2.0).reason_to_stop(parts) == ""
    assert Ga(gamma=2.0, stop=3.6).reason_to_stop(parts) == ""
    assert "3.5 nats" in Ga(gamma=2.0, stop=3.4).reason_to_stop(parts)
