"""Gradient difference: ascent and descent, each a mean of its own."""

from __future__ import annotations

import pytest

from tests.objectives.conftest import MakeToy, cross_entropy
from tests.objectives.laws import answers, check_split, loss_of, stepped
from vlmend.objectives.gd import Gd
from vlmend.types import Role

ROLES = (Role.FORGET, Role.RETAIN, Role.FORGET, Role.RETAIN)


def test_it_is_a_difference_of_cross_entropies(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    forget, retain = (cross_entropy(toy, role) for role in (Role.FORGET, Role.RETAIN))
    assert loss_of(Gd(), toy).total.item() == pytest.approx(retain - forget, abs=1e-6)
    assert loss_of(Gd(gamma=2.0, alpha=0.5), toy).total.item() == pytest.approx(0.5 * retain - 2 * forget, abs=1e-6)
    check_split(Gd(), toy)


def test_the_forgotten_falls_and_the_retained_rises(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    change = answers(stepped(Gd(), toy)) - answers(toy)
    assert [bool(value > 0) for value in change] == [False, True, False, True]
