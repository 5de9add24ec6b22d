"""Direct preference optimization where it starts, and what its options do to that."""

from __future__ import annotations

import math

import pytest

from tests.objectives.conftest import MakeToy, moved
from tests.objectives.laws import answers, gradient, loss_of, stepped
from vlmend.objectives.dpo import Dpo
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY, Role.FORGET, Role.SAFETY)
OPTIONS = [Dpo(), Dpo(beta=3.0), Dpo(label_smoothing=0.2), Dpo(length_normalized=True)]


@pytest.mark.parametrize("objective", OPTIONS, ids=str)
def test_it_starts_at_log_two(make_toy: MakeToy, objective: Dpo) -> None:
    toy = make_toy(*ROLES)
    assert loss_of(objective, toy, toy).total.item() == pytest.approx(math.log(2), rel=1e-6)


def test_where_half_of_the_labels_are_wrong_nothing_is_learned(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    assert gradient(Dpo(label_smoothing=0.5), toy, toy).abs().max() == 0
    start, smoothed = gradient(Dpo(), toy, toy), gradient(Dpo(label_smoothing=0.1), toy, toy)
    assert ((0.8 * start - smoothed).abs() < 1e-7).all()  # 1 - 2 e of it


def test_smoothing_pulls_back_margins_that_are_sure_enough(make_toy: MakeToy) -> None:
    """The least loss is at a margin of log((1 - e) / e), beyond which the chosen falls again."""
    toy = make_toy(*ROLES)
    before = moved(toy, by=4.0, seed=3)
    ratios = answers(toy) - answers(before)
    sure = (ratios[1::2] - ratios[0::2]) > 0
    assert sure.any()
    gain = answers(stepped(Dpo(beta=1.0, label_smoothing=0.3), toy, before, 0.001)) - answers(toy)
    assert ((gain[1::2] - gain[0::2] < 0) == sure).all()


def test_the_refusal_rises_and_the_forgotten_falls(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    change = answers(stepped(Dpo(), toy, rate=20.0)) - answers(toy)
    assert [bool(value > 0) for value in change] == [False, True, False, True]
