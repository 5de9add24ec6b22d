"""Supervised fine-tuning: one mean over all answer tokens, and never of what is to be forgotten."""

from __future__ import annotations

import pytest

from tests.objectives.conftest import MakeToy, cross_entropy
from tests.objectives.laws import check_split, gradient, loss_of
from vlmend.objectives.sft import Sft
from vlmend.types import Role

ROLES = (Role.SAFETY, Role.UTILITY, Role.FORGET)  # five tokens, two, four


def test_tokens_of_all_roles_are_pooled_but_for_the_forgotten(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    safety, utility = (cross_entropy(toy, role) for role in ROLES[:2])
    assert loss_of(Sft(), toy).total.item() == pytest.approx((5 * safety + 2 * utility) / 7)
    assert gradient(Sft(), toy)[2].abs().max() == 0
    assert Role.FORGET not in Sft().needs.roles
    check_split(Sft(), toy)
