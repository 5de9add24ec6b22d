"""Negative preference optimization: its three reductions, its limits, its brakes."""

from __future__ import annotations

import math

import pytest
import torch

from tests.objectives.conftest import MakeToy, cross_entropy, moved
from tests.objectives.laws import answers, check_split, gradient, loss_of, stepped
from vlmend.objectives.ga import Ga
from vlmend.objectives.npo import Npo
from vlmend.types import Role

ROLES = (Role.FORGET, Role.RETAIN, Role.FORGET, Role.RETAIN)
REDUCTIONS = ("sequence", "token_mean_sample", "token_mean_batch")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("beta", [0.1, 0.9])
def test_at_the_start_it_is_two_log_two_over_beta(make_toy: MakeToy, reduction: str, beta: float) -> None:
    toy = make_toy(*ROLES)
    loss = loss_of(Npo(beta=beta, reduction=reduction), toy)  # type: ignore[arg-type]
    assert loss.parts["forget"].item() == pytest.approx(2 / beta * math.log(2), rel=1e-5)
    assert loss.parts["retain"].item() == pytest.approx(cross_entropy(toy, Role.RETAIN))


def test_as_coded_it_starts_with_the_gradient_of_ascent(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    coded = Npo(reduction="token_mean_batch", alpha=0.0)
    assert torch.allclose(gradient(coded, toy), gradient(Ga(), toy), atol=1e-6)


def test_without_beta_the_published_one_is_ascent_on_whole_answers(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    found = gradient(Npo(beta=1e-6, alpha=0.0), toy, moved(toy))
    forget = toy.score().only(Role.FORGET)
    (ascent,) = torch.autograd.grad(forget.answer_logps.mean(), toy.logits)
    assert torch.allclose(found, ascent, atol=1e-4)


def test_the_reductions_are_what_they_say(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    before = moved(toy)
    now, old = (t.score().only(Role.FORGET) for t in (toy, before))
    beta = 0.7

    def by_hand(ratio: torch.Tensor) -> float:
        return float((-2 / beta * torch.sigmoid(-beta * ratio).log()).mean().detach())

    sums = now.answer_logps - old.answer_logps
    expected = {
        "sequence": by_hand(sums),
        "token_mean_sample": by_hand(sums / now.lengths),
        "token_mean_batch": by_hand(now.logps.mean() - old.logps.mean()),
    }
    for reduction, value in expected.items():
        found = loss_of(Npo(beta=beta, reduction=reduction), toy, before)  # type: ignore[arg-type]
        assert found.parts["forget"].item() == pytest.approx(value, rel=1e-5), reduction
    assert len({round(value, 3) for value in expected.values()}) == 3


def test_passes_add_up_unless_one_sigmoid_is_taken_for_a_pass(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    check_split(Npo(alpha_npo=0.3), toy)
    check_split(Npo(reduction="token_mean_sample"), toy)
    with pytest.raises(AssertionError):
        check_split(Npo(reduction="token_mean_batch"), toy)


def test_an_answer_already_forgotten_is_let_go_and_one_that_is_not_is_pushed(make_toy: MakeToy) -> None:
    """The gradient of each answer is that of ascent times 2 sigmoid(beta * log-ratio)."""
    toy = make_toy(*ROLES)
    before = moved(toy, 0.0)
    with torch.no_grad():
        before.logits[0] -= 30.0 * torch.nn.functional.one_hot(toy.labels.roll(-1, 1).clamp(min=0)[0], 7)
    ratio = (answers(toy) - answers(before))[[0, 2]]
    sizes = gradient(Npo(alpha=0.0, beta=0.5), toy, before)[[0, 2]].flatten(1).norm(dim=1)
    ascent = gradient(Npo(alpha=0.0, beta=1e-7), toy, before)[[0, 2]].flatten(1).norm(dim=1)
    assert torch.allclose(sizes / ascent, 2 * torch.sigmoid(0.5 * ratio), rtol=1e-3)
    swapped = gradient(Npo(alpha=0.0, beta=0.5), moved(before, 0.0), moved(toy, 0.0))[0].norm()
    assert swapped < 1e-3 * sizes[0]


def test_the_forgotten_falls_and_the_retained_rises(make_toy: MakeToy) -> None:
    """The effect, not the loss: with model and reference swapped, the loss would fall just as well."""
    toy = make_toy(*ROLES)
    change = answers(stepped(Npo(), toy)) - answers(toy)
    assert [bool(value > 0) for value in change] == [False, True, False, True]


def test_the_retain_term_of_the_code_is_the_forget_term_with_its_sign_turned(make_toy: MakeToy) -> None:
    toy = make_toy(Role.FORGET, Role.FORGET, Role.RETAIN, Role.RETAIN)
    before = moved(toy)
    swapped = (type(toy)(t.logits, (Role.RETAIN, Role.RETAIN, Role.FORGET, Role.FORGET)) for t in (toy, before))
    retained = loss_of(Npo(alpha_npo=1.0), toy, before).parts["retain_npo"]
    assert retained.item() == pytest.approx(-loss_of(Npo(), *swapped).parts["forget"].item(), rel=1e-5)
    alone = Npo(alpha=0.0, alpha_npo=1.0)
    change = answers(stepped(alone, toy)) - answers(toy)
    assert (change[2:] > 0).all()


def test_it_asks_for_no_more_than_it_uses() -> None:
    assert Npo(alpha=0.0).needs.roles == {Role.FORGET}
    assert Npo().needs.roles == {Role.FORGET, Role.RETAIN}
    assert Npo().needs.reference == {Role.FORGET}
    assert Npo(alpha_npo=1.0).needs.reference == {Role.FORGET, Role.RETAIN}
