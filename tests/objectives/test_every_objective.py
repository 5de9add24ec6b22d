"""Laws that hold for every objective as it is by default, a new one's included."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.objectives.conftest import MakeToy, Toy, moved
from tests.objectives.laws import check_split, loss_of
from vlmend.objectives import Objective
from vlmend.ops.scored import Scored
from vlmend.registry import objectives
from vlmend.types import Role

NAMES = [name for name in objectives.names() if not objectives.build(name).needs.rollouts]  # see test_online.py


def toy_for(objective: Objective, make_toy: MakeToy) -> Toy:
    """Two examples of every role that the objective consumes."""
    return make_toy(*2 * sorted(objective.needs.roles))


def telling(scored: Scored, told: frozenset[Role] | None) -> Scored:
    """The log-probabilities of some roles alone, as the loop gives them that saves the others."""
    if told is None:
        return scored
    kept = torch.tensor([scored.roles[owner] in told for owner in scored.owner.tolist()], dtype=torch.bool)
    return replace(scored, logps=scored.logps[kept], owner=scored.owner[kept], told=told)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_in_several_passes_is_the_batch(name: str, make_toy: MakeToy) -> None:
    objective = objectives.build(name)
    check_split(objective, toy_for(objective, make_toy), len(objective.needs.roles))


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_no_more_than_it_says(name: str, make_toy: MakeToy) -> None:
    """So that one that says nothing of `tokens` and `states_only` gets the same numbers, later."""
    objective = objectives.build(name)
    toy = toy_for(objective, make_toy)
    needs, before = objective.needs, moved(toy)
    reference = before.score(needs.look).only(*needs.reference) if needs.reference else None
    if reference is not None and needs.states_only:
        reference = telling(reference, frozenset())
    asked = objective(telling(toy.score(needs.look), needs.tokens), reference)
    assert asked.total.item() == pytest.approx(loss_of(objective, toy, before).total.item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_role_it_consumes_moves(name: str, make_toy: MakeToy) -> None:
    objective = objectives.build(name)
    toy = toy_for(objective, make_toy)
    (gradient,) = torch.autograd.grad(loss_of(objective, toy, moved(toy)).total, toy.logits)
    assert (gradient.abs().flatten(1).sum(1) > 0).all()
