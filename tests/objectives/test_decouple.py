"""Prompt Decouple: a term beside any objective, with the published weight of each."""

from __future__ import annotations

from typing import Any

import pytest

from tests.objectives.conftest import MakeToy, cross_entropy
from tests.objectives.laws import check_split, gradient, loss_of
from vlmend.config import MethodConfig
from vlmend.objectives import Decoupled, build
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY, Role.RETAIN, Role.DECOUPLE)
METHODS: dict[str, dict[str, Any]] = {
    "ga": {}, "gd": {}, "kl": {}, "po": {}, "npo": {}, "simnpo": {}, "rmu": {"positions": "all"}, "sft": {},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_it_adds_a_cross_entropy_and_changes_nothing_else(make_toy: MakeToy, name: str) -> None:
    toy = make_toy(*ROLES)
    plain = build(MethodConfig(name=name, **METHODS[name]))
    decoupled = build(MethodConfig(name=name, pd={"weight": 0.7}, **METHODS[name]))  # type: ignore[arg-type]
    extra = loss_of(decoupled, toy).total - loss_of(plain, toy).total
    assert extra.item() == pytest.approx(0.7 * cross_entropy(toy, Role.DECOUPLE), rel=1e-4)
    difference = gradient(decoupled, toy) - gradient(plain, toy)
    assert difference[3].abs().max() > 0
    assert difference[:3].abs().max() < 1e-7
    check_split(decoupled, toy)
    assert decoupled.needs.roles == plain.needs.roles | {Role.DECOUPLE}
    assert decoupled.needs.reference == plain.needs.reference


@pytest.mark.parametrize(("name", "weight"), [("ga", 0.5), ("gd", 0.5), ("kl", 1.0), ("po", 1.0), ("npo", 1.0)])
def test_unless_said_the_weight_is_the_published_one(name: str, weight: float) -> None:
    objective = build(MethodConfig(name=name, pd=True))
    assert isinstance(objective, Decoupled)
    assert objective.weight == weight


def test_matched_follows_what_is_forgotten_or_else_refused() -> None:
    def links(name: str, pd: object) -> dict[Role, Role]:
        return dict(build(MethodConfig(name=name, pd=pd)).needs.links)  # type: ignore[arg-type]

    assert links("npo", True) == {Role.DECOUPLE: Role.FORGET}
    assert links("po", True) == {Role.DECOUPLE: Role.SAFETY}
    assert links("po", {"pairing": "random"}) == {}
    assert links("dpo", True) == {Role.SAFETY: Role.FORGET, Role.DECOUPLE: Role.FORGET}
