"""Preference optimization: each role its own mean, or all tokens in one as the code has it."""

from __future__ import annotations

import pytest

from tests.objectives.conftest import MakeToy, cross_entropy
from tests.objectives.laws import check_split, gradient, loss_of
from vlmend.errors import ConfigError
from vlmend.objectives.po import Po
from vlmend.registry import objectives
from vlmend.types import Role

ROLES = (Role.SAFETY, Role.RETAIN)  # five tokens and two


def test_each_role_has_its_own_mean(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    refuse, retain = (cross_entropy(toy, role) for role in ROLES)
    assert loss_of(Po(), toy).total.item() == pytest.approx(refuse + retain)
    assert loss_of(Po(gamma=2.0, alpha=0.5), toy).total.item() == pytest.approx(2 * refuse + 0.5 * retain)
    check_split(Po(), toy)


def test_pooled_weighs_by_tokens(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    refuse, retain = (cross_entropy(toy, role) for role in ROLES)
    assert loss_of(Po(reduction="pooled"), toy).total.item() == pytest.approx((5 * refuse + 2 * retain) / 7)
    sides = [float(gradient(Po(reduction=kind), toy)[1].norm()) for kind in ("per_role", "pooled")]  # type: ignore[arg-type]
    assert sides[1] == pytest.approx(sides[0] * 2 / 7, rel=1e-5)
    check_split(Po(reduction="pooled"), toy)
    with pytest.raises(ConfigError, match="pooled"):
        objectives.build("po", {"reduction": "pooled", "gamma": 2.0})
