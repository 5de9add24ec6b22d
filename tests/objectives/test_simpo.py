"""SimPO: no reference, and a margin that has to be won."""

from __future__ import annotations

import math

import pytest

from tests.objectives.conftest import MakeToy, moved
from tests.objectives.laws import gradient, loss_of
from vlmend.objectives.simpo import Simpo
from vlmend.ops.scored import Needs
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY)


def test_it_holds_no_reference_and_sees_none(make_toy: MakeToy) -> None:
    assert Simpo().needs.reference == Needs(()).reference == frozenset()
    toy = make_toy(*ROLES)
    with_one = Simpo()(toy.score(), moved(toy).score()).total
    assert with_one.item() == loss_of(Simpo(), toy).total.item()


def test_by_hand_equal_rates_lose_the_margin(make_toy: MakeToy) -> None:
    """Uniform guesses have one mean per token, however long the answers are."""
    toy = make_toy(*ROLES)
    toy.logits.data.zero_()
    assert loss_of(Simpo(gamma=0.0), toy).total.item() == pytest.approx(math.log(2), rel=1e-6)
    assert loss_of(Simpo(gamma=1.5), toy).total.item() == pytest.approx(math.log(1 + math.exp(1.5)), rel=1e-6)
    assert gradient(Simpo(gamma=1.5), toy).norm() > gradient(Simpo(gamma=0.0), toy).norm()
