"""Identity preference optimization: its least point, from both sides."""

from __future__ import annotations

import pytest

from tests.objectives.conftest import MakeToy, Toy, moved
from tests.objectives.laws import answers, gradient, loss_of, stepped
from vlmend.objectives.ipo import Ipo
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY)


def margin(toy: Toy, before: Toy) -> float:
    rejected, chosen = (answers(toy) - answers(before)).tolist()
    return chosen - rejected


def test_it_starts_at_the_squared_target(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    assert loss_of(Ipo(beta=0.1), toy, toy).total.item() == pytest.approx(25.0)


def test_it_pulls_margins_to_one_over_two_beta_from_both_sides(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    before = next(b for b in (moved(toy, seed=seed) for seed in range(20)) if margin(toy, b) > 0.5)
    now = margin(toy, before)
    there = Ipo(beta=1 / (2 * now))
    assert loss_of(there, toy, before).total.item() == pytest.approx(0.0, abs=1e-9)
    assert gradient(there, toy, before).abs().max() < 1e-5
    for target, up in ((0.5 * now, False), (2 * now, True)):
        after = margin(stepped(Ipo(beta=1 / (2 * target)), toy, before, rate=0.01), before)
        assert (after > now) is up
