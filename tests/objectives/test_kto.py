"""KTO: by hand, from unpaired answers; its reference point is of the whole step."""

from __future__ import annotations

import math

import pytest
import torch

from tests.objectives.conftest import MakeToy, Toy
from tests.objectives.laws import answers, check_split, gradient, loss_of, stepped
from vlmend.objectives.kto import Kto
from vlmend.ops.logprobs import IGNORE
from vlmend.types import Role

ROLES = (Role.SAFETY, Role.FORGET, Role.FORGET, Role.UTILITY, Role.FORGET)
WANTED = [True, False, False, True, False]


def doubled(toy: Toy) -> Toy:
    return Toy(toy.logits.detach().double().requires_grad_(), toy.roles)


def close(toy: Toy, sign: float) -> Toy:
    """A model before tuning to which the answers were all less (or more) likely."""
    hit = torch.zeros_like(toy.logits)
    labels = toy.labels[:, 1:]
    hit[:, :-1].scatter_(2, labels.clamp(min=0)[..., None], (labels != IGNORE).to(hit.dtype)[..., None])
    return Toy((toy.logits.detach() - sign * 0.7 * hit).requires_grad_(), toy.roles)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["above", "below"])
@pytest.mark.parametrize("point", ["batch", "zero"])
def test_value_and_gradient_are_those_of_the_written_formula(make_toy: MakeToy, sign: float, point: str) -> None:
    toy = doubled(make_toy(*ROLES))
    before = close(toy, sign)
    labels = toy.labels[:, 1:]

    def logps(logits: torch.Tensor) -> torch.Tensor:
        each = logits[:, :-1].log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        return (each * (labels != IGNORE)).sum(1)

    ratio = logps(toy.logits) - logps(before.logits).detach()
    assert (ratio.detach().mean() > 0) == (sign > 0)
    z0 = max(0.0, ratio.detach().mean().item()) if point == "batch" else 0.0
    terms = [
        1.5 * (1 - 1 / (1 + (-0.2 * (r - z0)).exp())) if wanted else 0.5 * (1 - 1 / (1 + (-0.2 * (z0 - r)).exp()))
        for r, wanted in zip(ratio, WANTED, strict=True)
    ]
    value = torch.stack(terms).mean()
    (slope,) = torch.autograd.grad(value, toy.logits)
    objective = Kto(beta=0.2, desirable=1.5, undesirable=0.5, reference_point=point)  # type: ignore[arg-type]
    assert loss_of(objective, toy, before).total.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(gradient(objective, toy, before), slope, rtol=1e-4, atol=1e-7)


def test_a_batch_cut_anywhere_has_one_reference_point(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    before = close(toy, 1.0)
    whole = gradient(Kto(), toy, before)
    cut = torch.stack([gradient(Kto(), toy, before, rows) for rows in ([3, 1], [0], [2, 4])]).sum(0)
    torch.testing.assert_close(cut, whole)
    check_split(Kto(), toy)


def test_it_starts_at_half_with_opposite_slopes(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    loss = loss_of(Kto(), toy)
    assert loss.total.item() == pytest.approx(0.5)
    assert float(loss.parts["desirable"]) == pytest.approx(0.2)
    change = answers(stepped(Kto(), toy, rate=20.0)) - answers(toy)
    assert [bool(value > 0) for value in change] == WANTED
    one, other = Toy(toy.logits, (Role.SAFETY,) * 5), Toy(toy.logits, (Role.FORGET,) * 5)
    torch.testing.assert_close(gradient(Kto(), one), -gradient(Kto(), other))


def test_answers_that_all_rose_say_nothing_of_the_wanted(make_toy: MakeToy) -> None:
    """The point of reference: a model that drifted from where it was has not thereby learned."""
    toy = Toy(torch.zeros(2, 9, 7).requires_grad_(), (Role.SAFETY, Role.FORGET))
    before = close(toy, 1.0)
    ratio = answers(toy) - answers(before)
    point = ratio.mean().item()
    by_hand = [1 / (1 + math.exp(s * (r - point))) / 2 for s, r in zip((1, -1), ratio.tolist(), strict=True)]
    assert loss_of(Kto(beta=1.0), toy, before).total.item() == pytest.approx(sum(by_hand), rel=1e-5)
    assert ratio.min() > 0
