"""SimNPO: no reference, and a brake by the mean per token."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.conftest import MakeToy
from tests.objectives.laws import answers, check_split, loss_of, stepped
from vlmend.objectives.simnpo import SimNpo
from vlmend.types import Role

ROLES = (Role.FORGET, Role.RETAIN, Role.FORGET)


def test_it_is_minus_log_sigmoid_of_the_mean_per_token(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    forget = toy.score().only(Role.FORGET)
    mean = forget.answer_logps / forget.lengths
    by_hand = (-2 / 2.5 * torch.sigmoid(-2.5 * mean - 0.4).log()).mean()
    assert loss_of(SimNpo(beta=2.5, delta=0.4), toy).parts["forget"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    check_split(SimNpo(), toy)


def test_the_forgotten_falls_and_the_retained_rises(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    change = answers(stepped(SimNpo(), toy)) - answers(toy)
    assert [bool(value > 0) for value in change] == [False, True, False]
    assert SimNpo().needs.reference == frozenset()
    assert SimNpo(alpha=0.0).needs.roles == {Role.FORGET}
