"""ORPO: odds by hand, and its two halves."""

from __future__ import annotations

import math

import pytest

from tests.objectives.conftest import VOCABULARY, MakeToy, cross_entropy
from tests.objectives.laws import answers, loss_of, stepped
from vlmend.objectives.orpo import Orpo
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY)


def test_even_odds_leave_log_two_beside_the_likelihood(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    toy.logits.data.zero_()
    parts = loss_of(Orpo(weight=0.3), toy).parts
    assert float(parts["odds"]) == pytest.approx(0.3 * math.log(2), rel=1e-6)
    assert float(parts["sft"]) == pytest.approx(math.log(VOCABULARY), rel=1e-6)
    assert Orpo().needs.reference == frozenset()


def test_almost_no_weight_leaves_the_chosen_answers_cross_entropy(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    objective = Orpo(weight=1e-9)
    assert loss_of(objective, toy).total.item() == pytest.approx(cross_entropy(toy, Role.SAFETY), rel=1e-6)
    change = answers(stepped(objective, toy)) - answers(toy)
    assert change[1] > 0
    assert abs(change[0]) < 1e-6
