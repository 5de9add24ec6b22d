"""RMU: where it steers, where to, and what it holds."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.conftest import VOCABULARY, MakeToy, moved
from tests.objectives.laws import check_split, gradient, loss_of
from vlmend.objectives.rmu import Rmu
from vlmend.ops.unlearning import control_vector
from vlmend.types import Role

ROLES = (Role.FORGET, Role.RETAIN, Role.FORGET)


def test_the_forget_part_is_the_mean_square_to_the_control_vector(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    control = control_vector(VOCABULARY, "gaussian", 42)
    states = 2 * toy.logits.detach()[[0, 2]]
    expected = (states - 3.0 * control).pow(2)
    found = loss_of(Rmu(coefficient=3.0, positions="all"), toy).parts["forget"]
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-5)
    check_split(Rmu(positions="all"), toy)


@pytest.mark.parametrize(("positions", "tokens"), [("answer", 9), ("text", 13), ("no_pad", 15), ("all", 18)])
def test_only_the_named_positions_are_steered(make_toy: MakeToy, positions: str, tokens: int) -> None:
    """Answers of five and four tokens behind prompts of three, in rows of nine."""
    toy = make_toy(*ROLES)
    steered = gradient(Rmu(positions=positions, alpha=0.0), toy).abs().sum(-1) > 0  # type: ignore[arg-type]
    assert int(steered.sum()) == tokens
    assert not steered[1].any()


def test_adaptive_steers_by_the_norm_before_tuning(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    before = moved(toy)
    states, old = (2 * t.logits.detach()[[0, 2]] for t in (toy, before))
    control = control_vector(VOCABULARY, "gaussian", 42)
    expected = (states - 5.0 * old.norm(dim=-1, keepdim=True) * control).pow(2).mean()
    method = Rmu(coefficient=5.0, scale="adaptive", positions="all")
    assert loss_of(method, toy, before).parts["forget"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert method.needs.reference == {Role.FORGET}
    check_split(method, toy)


def test_the_hidden_retain_part_holds_states_where_they_were(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    method = Rmu(alpha_hidden=2.0, alpha=0.0, positions="no_pad")
    assert loss_of(method, toy).parts["retain_hidden"].item() == 0.0
    before = moved(toy)
    gap = (2 * (toy.logits - before.logits).detach()[1, :5]).pow(2).mean()  # three of the prompt, two of the answer
    assert loss_of(method, toy, before).parts["retain_hidden"].item() == pytest.approx(2 * gap.item(), rel=1e-5)
    assert method.needs.reference == {Role.RETAIN}
    check_split(method, toy)


def test_the_direction_that_is_saved_is_the_one_that_was_used(make_toy: MakeToy) -> None:
    toy = make_toy(Role.FORGET, Role.RETAIN)
    method = Rmu(control="uniform", seed=3, coefficient=2.0, positions="all", alpha=0.0)
    with torch.no_grad():
        toy.logits[0] = method.drawn(VOCABULARY)["control"]  # states are twice that
    assert loss_of(method, toy).total.item() == pytest.approx(0.0, abs=1e-8)
