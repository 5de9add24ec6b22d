"""What holds of every objective, and how to see an effect rather than a loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.objectives.conftest import Toy, moved
from vlmend.objectives import Objective, Surveys
from vlmend.ops.scored import Loss, Scored


def loss_of(objective: Objective, toy: Toy, before: Toy | None = None, rows: list[int] | None = None) -> Loss:
    """The loss of some rows, with `before` as the model before tuning."""
    look = objective.needs.look
    reference: Scored | None = None
    if objective.needs.reference:
        with torch.no_grad():
            reference = (before or toy).score(look, rows).only(*objective.needs.reference)
            reference = replace(reference, named=objective.needs.reference)
    policy = replace(toy.score(look, rows), named=objective.needs.roles)
    if objective.needs.survey and rows is not None:  # of the whole step, as the loop does
        policy = replace(policy, totals=replace(policy.totals, surveyed=surveyed(objective, toy, before or toy)))
    return objective(policy, reference)


def surveyed(objective: Objective, toy: Toy, before: Toy) -> dict[str, float]:
    """What an objective takes of all rows."""
    assert isinstance(objective, Surveys)
    with torch.no_grad():
        found = objective.survey(toy.score(), before.score())
    return {name: float(value) for name, value in found.items()}


def gradient(objective: Objective, toy: Toy, before: Toy | None = None, rows: list[int] | None = None) -> Tensor:
    """Of the loss by the logits."""
    (found,) = torch.autograd.grad(loss_of(objective, toy, before, rows).total, toy.logits)
    return found


def answers(toy: Toy) -> Tensor:
    """(E,) log-probability of each answer."""
    return toy.score().answer_logps.detach()


def stepped(objective: Objective, toy: Toy, before: Toy | None = None, rate: float = 0.5) -> Toy:
    """The toy after one step of plain gradient descent."""
    logits = toy.logits.detach() - rate * gradient(objective, toy, before)
    return Toy(logits.requires_grad_(), toy.roles)


def check_split(objective: Objective, toy: Toy, together: int = 1) -> None:
    """Passes of some rows each add up to one pass of all, whatever the order; so many rows in turn stay together."""
    before, count = moved(toy), len(toy.roles)
    whole = loss_of(objective, toy, before)
    pieces = [list(range(start, start + together)) for start in range(0, count, together)]
    for cut in ([pieces[0], list(range(together, count))], pieces[::-1]):
        parts = [loss_of(objective, toy, before, rows) for rows in cut]
        assert torch.allclose(torch.stack([part.total for part in parts]).sum(), whole.total, atol=1e-5)
        sums = torch.stack([gradient(objective, toy, before, rows) for rows in cut]).sum(0)
        assert torch.allclose(sums, gradient(objective, toy, before), atol=1e-6)
        for name, value in whole.parts.items():
            assert torch.allclose(torch.stack([part.parts[name] for part in parts]).sum(), value, atol=1e-5)
    assert torch.allclose(torch.stack(list(whole.parts.values())).sum(), whole.total)
