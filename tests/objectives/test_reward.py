"""Reward and cost models: the written formulas, what a step does to the two sides, and what comparisons cannot tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.objectives.conftest import MakeToy, Toy, cross_entropy
from tests.objectives.laws import check_split, gradient, loss_of, stepped
from vlmend.objectives import Objective
from vlmend.ops.scored import Scored
from vlmend.registry import objectives
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY, Role.FORGET, Role.SAFETY, Role.FORGET, Role.SAFETY)
each = pytest.mark.parametrize("name", ["reward", "cost"])


def built(name: str, **settings: Any) -> Objective:
    return objectives.build(name, settings)


def scored(objective: Objective, toy: Toy, numbers: Tensor | None = None) -> Scored:
    return replace(toy.score(objective.needs.look), numbers=numbers)


def ends(toy: Toy) -> tuple[Tensor, Tensor]:
    """What the toy's head says at the end of the chosen and of the rejected answers."""
    values = toy.score(built("reward").needs.look).values
    return values[1::2], values[0::2]


def flat(toy: Toy) -> Toy:
    """The same answers with a head that says 0 of each."""
    return Toy(torch.zeros_like(toy.logits).requires_grad_(), toy.roles)


def test_the_end_is_the_last_answer_token_alone(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    slope = torch.autograd.grad(sum(ends(toy)).sum(), toy.logits)[0].abs().sum(2) > 0  # type: ignore[union-attr]
    last = [int((labels >= 0).nonzero().max()) for labels in toy.labels]
    assert slope.nonzero().tolist() == [[row, place] for row, place in enumerate(last)]


def test_reward_is_the_formula_of_trl(make_toy: MakeToy) -> None:
    """RewardTrainer: -logsigmoid(chosen - rejected - margin).mean() + c ((chosen + rejected) ** 2).mean()."""
    toy, margins = make_toy(*ROLES), torch.tensor([0.5, 0.0, 2.0])
    chosen, rejected = ends(toy)
    plain = -F.logsigmoid(chosen - rejected).mean()
    assert loss_of(built("reward"), toy).total.item() == pytest.approx(plain.item(), rel=1e-5)
    theirs = -F.logsigmoid(chosen - rejected - margins).mean() + 0.01 * ((chosen + rejected) ** 2).mean()
    ours = built("reward", margin_key="m", centering=0.01)
    numbers = torch.stack([torch.zeros(3), margins], 1).flatten()  # of the chosen sides
    (slope,) = torch.autograd.grad(theirs, toy.logits, retain_graph=True)
    loss = ours(scored(ours, toy, numbers)).total
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(loss, toy.logits)[0], slope)
    fixed = loss_of(built("reward", margin=0.5), toy).total
    assert fixed.item() == pytest.approx(-F.logsigmoid(chosen - rejected - 0.5).mean().item(), rel=1e-5)
    both = built("reward", margin=0.5, margin_key="m")
    assert both(scored(both, toy, numbers)).total > loss_of(built("reward", margin=0.5), toy).total


def test_cost_is_the_formula_of_safe_rlhf(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    harmless, harmful = ends(toy)
    order = -F.logsigmoid(harmful - harmless).mean()
    by_side = -(F.logsigmoid(harmful) + F.logsigmoid(-harmless)).mean()
    parts = loss_of(built("cost", sign=0.5), toy).parts
    assert float(parts["cost"]) == pytest.approx(order.item(), rel=1e-5)
    assert float(parts["sign"]) == pytest.approx(0.5 * by_side.item(), rel=1e-5)
    assert loss_of(built("cost", sign=0.0), toy).total.item() == pytest.approx(order.item(), rel=1e-5)
    rows = built("cost", harmful="rows")
    said = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])  # both harm, one does, none does
    signs = 2 * said - 1
    each_one = -F.logsigmoid(signs * toy.score(rows.needs.look).values)
    assert float(rows(scored(rows, toy, said)).parts["sign"]) == pytest.approx(each_one.sum().item() / 3, rel=1e-5)
    assert rows.needs.numbers == {Role.SAFETY: "chosen_harmful", Role.FORGET: "rejected_harmful"}


def test_a_head_of_zeros_prefers_nothing(make_toy: MakeToy) -> None:
    toy, log2 = flat(make_toy(*ROLES)), torch.tensor(2.0).log().item()
    assert loss_of(built("reward"), toy).total.item() == pytest.approx(log2)
    assert loss_of(built("reward", margin=1.0), toy).total.item() > log2
    assert {k: float(v) for k, v in loss_of(built("cost"), toy).parts.items()} == pytest.approx(
        {"cost": log2, "sign": 2 * log2}
    )


@each
def test_the_gap_widens_and_swapped_sides_turn_that_around(make_toy: MakeToy, name: str) -> None:
    toy = make_toy(*ROLES)
    swapped = Toy(toy.logits, tuple(Role.SAFETY if role is Role.FORGET else Role.FORGET for role in toy.roles))
    upward = {"reward": 1, "cost": -1}[name]
    objective = built(name, **({"sign": 0.0} if name == "cost" else {}))
    for turned, sign in ((toy, upward), (swapped, -upward)):
        before, after = (
            chosen - rejected for chosen, rejected in (ends(toy), ends(stepped(objective, turned, rate=0.1)))
        )
        assert (sign * (after - before) > 0).all()
    start = flat(toy)
    assert torch.allclose(gradient(objective, start), -gradient(objective, Toy(start.logits, swapped.roles)), atol=1e-7)


def test_a_number_added_to_all_changes_comparisons_in_nothing_but_center_and_sign(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)

    def shifted(objective: Objective, by: float) -> float:
        found = toy.score(objective.needs.look)
        assert found.spots is not None
        assert found.spots.values is not None
        return objective(replace(found, spots=replace(found.spots, values=found.spots.values + by))).total.item()

    for same in (built("reward", margin=0.3), built("cost", sign=0.0)):
        assert shifted(same, 5.0) == pytest.approx(shifted(same, 0.0), rel=1e-5)
    for other in (built("reward", centering=0.1), built("cost")):
        assert shifted(other, 5.0) > shifted(other, 0.0) + 0.1


@each
def test_pairs_add_up_and_half_a_pair_is_refused(make_toy: MakeToy, name: str) -> None:
    toy = make_toy(*ROLES)
    check_split(built(name), toy, together=2)
    with pytest.raises(RuntimeError, match="half a pair"):
        loss_of(built(name), toy, rows=[0, 1, 2])


@each
def test_what_is_learned_beside_it_is_cross_entropy(make_toy: MakeToy, name: str) -> None:
    toy = make_toy(*ROLES, Role.RETAIN, Role.RETAIN)
    parts = loss_of(built(name, sft=0.5, alpha=2.0), toy).parts
    assert float(parts["sft"]) == pytest.approx(0.5 * cross_entropy(toy, Role.SAFETY), rel=1e-5)
    assert float(parts["retain"]) == pytest.approx(2.0 * cross_entropy(toy, Role.RETAIN), rel=1e-5)
    assert built(name).needs.tokens == frozenset()
    assert built(name, sft=0.5, alpha=2.0).needs.tokens == {Role.SAFETY, Role.RETAIN}
