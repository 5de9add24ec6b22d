"""Prompt Decouple: a term beside any objective, with the published weight of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.objectives.conftest import MakeToy, cross_entropy
from tests.objectives.laws import check_split, gradient, loss_of
from vlmend.config import MethodConfig
from vlmend.errors import ConfigError
from vlmend.objectives import Decoupled, build
from vlmend.objectives import cross_entropy as cross_entropy_of
from vlmend.ops.scored import Loss, Needs, Scored
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


class Retains:
    """An objective that neither forgets nor refuses."""

    needs = Needs(((Role.RETAIN,), (Role.UTILITY,)))

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        return Loss.of({"retain": cross_entropy_of(policy, Role.RETAIN)})


def test_without_a_forgotten_or_refused_example_there_is_nothing_to_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows drawn at random in place of matched pairs are another method, which has to be asked for."""
    monkeypatch.setattr("vlmend.objectives.objectives", SimpleNamespace(build=lambda *_: Retains()))
    with pytest.raises(ConfigError, match=r"'keep' uses no forgotten or refused examples.*pairing: random"):
        build(MethodConfig(name="keep", pd=True))
    drawn = build(MethodConfig(name="keep", pd={"pairing": "random"}))  # type: ignore[arg-type]
    assert drawn.needs.links == {}
    assert drawn.needs.streams == ((Role.RETAIN,), (Role.UTILITY,), (Role.DECOUPLE,))


def test_matched_follows_what_is_forgotten_or_else_refused() -> None:
    def links(name: str, pd: object) -> dict[Role, Role]:
        return dict(build(MethodConfig(name=name, pd=pd)).needs.links)  # type: ignore[arg-type]

    assert links("npo", True) == {Role.DECOUPLE: Role.FORGET}
    assert links("po", True) == {Role.DECOUPLE: Role.SAFETY}
    assert links("po", {"pairing": "random"}) == {}
    assert links("dpo", True) == {Role.SAFETY: Role.FORGET, Role.DECOUPLE: Role.FORGET}
