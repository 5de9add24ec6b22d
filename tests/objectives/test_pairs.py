"""What holds of every objective on preference pairs: its written formula, and what a step does to the two sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.objectives.conftest import MakeToy, Toy, cross_entropy, moved
from tests.objectives.laws import answers, check_split, gradient, loss_of, stepped
from vlmend.objectives import Objective
from vlmend.ops.logprobs import IGNORE
from vlmend.registry import objectives
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY, Role.FORGET, Role.SAFETY, Role.FORGET, Role.SAFETY)


class Side(NamedTuple):
    """Of each answer of a side: log pi, log pi_0, and its tokens."""

    now: Tensor
    before: Tensor
    tokens: Tensor


Formula = Callable[[Side, Side], Tensor]


def _ratio(side: Side) -> Tensor:
    return side.now - side.before


def _log_sigmoid(value: Tensor) -> Tensor:
    return (1 / (1 + (-value).exp())).log()


def _dpo(w: Side, l: Side) -> Tensor:  # noqa: E741
    return -_log_sigmoid(0.3 * (_ratio(w) - _ratio(l)))


def _dpo_smoothed(w: Side, l: Side) -> Tensor:  # noqa: E741
    margin = 0.3 * (_ratio(w) - _ratio(l))
    return -0.8 * _log_sigmoid(margin) - 0.2 * _log_sigmoid(-margin)


def _dpo_per_token(w: Side, l: Side) -> Tensor:  # noqa: E741
    return -_log_sigmoid(2.0 * (_ratio(w) / w.tokens - _ratio(l) / l.tokens))


def _ipo(w: Side, l: Side) -> Tensor:  # noqa: E741
    return (_ratio(w) - _ratio(l) - 1 / (2 * 0.25)) ** 2


def _ipo_per_token(w: Side, l: Side) -> Tensor:  # noqa: E741
    return (_ratio(w) / w.tokens - _ratio(l) / l.tokens - 1 / (2 * 0.25)) ** 2


def _simpo(w: Side, l: Side) -> Tensor:  # noqa: E741
    return -_log_sigmoid(2.5 / w.tokens * w.now - 2.5 / l.tokens * l.now - 0.7)


def _orpo(w: Side, l: Side) -> Tensor:  # noqa: E741
    odds, other = (p / (1 - p) for p in ((side.now / side.tokens).exp() for side in (w, l)))
    return -w.now.sum() / w.tokens.sum() - 0.4 * _log_sigmoid((odds / other).log())


def _cpo(w: Side, l: Side) -> Tensor:  # noqa: E741
    margin = 0.3 * w.now - 0.3 * l.now
    return -0.5 * w.now.sum() / w.tokens.sum() - 0.9 * _log_sigmoid(margin) - 0.1 * _log_sigmoid(-margin)


def _dpo_anchored(w: Side, l: Side) -> Tensor:  # noqa: E741
    return _dpo(w, l) - 0.5 * _log_sigmoid(0.3 * _ratio(w))


CASES: dict[str, tuple[str, dict[str, Any], Formula]] = {
    "dpo": ("dpo", {"beta": 0.3}, _dpo),
    "dpo, smoothed": ("dpo", {"beta": 0.3, "label_smoothing": 0.2}, _dpo_smoothed),
    "dpo, per token": ("dpo", {"beta": 2.0, "length_normalized": True}, _dpo_per_token),
    "dpo, anchored": ("dpo", {"beta": 0.3, "anchor": 0.5}, _dpo_anchored),
    "ipo": ("ipo", {"beta": 0.25}, _ipo),
    "ipo, per token": ("ipo", {"beta": 0.25, "length_normalized": True}, _ipo_per_token),
    "simpo": ("simpo", {"beta": 2.5, "gamma": 0.7}, _simpo),
    "orpo": ("orpo", {"weight": 0.4}, _orpo),
    "cpo": ("cpo", {"beta": 0.3, "label_smoothing": 0.1, "sft": 0.5}, _cpo),
}
NAMES = sorted({name for name, _, _ in CASES.values()})
each_case = pytest.mark.parametrize("case", CASES)
each_name = pytest.mark.parametrize("name", NAMES)


def made(case: str) -> Objective:
    name, settings, _ = CASES[case]
    return objectives.build(name, settings)


def double(toy: Toy) -> Toy:
    return Toy(toy.logits.detach().double().requires_grad_(), toy.roles)


def by_hand(toy: Toy, before: Toy, formula: Formula) -> Tensor:
    """The mean over pairs, from logits, by torch's own log-softmax."""

    def logps(toy: Toy) -> Tensor:
        labels = toy.labels[:, 1:]
        each = toy.logits[:, :-1].log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        return (each * (labels != IGNORE)).sum(1)

    now, was, tokens = logps(toy), logps(before).detach(), (toy.labels != IGNORE).sum(1)
    sides = [
        Side(*(values[[row for row, r in enumerate(toy.roles) if r is role]] for values in (now, was, tokens)))
        for role in (Role.SAFETY, Role.FORGET)
    ]
    return formula(*sides).mean()


@each_case
def test_value_and_gradient_are_those_of_the_written_formula(make_toy: MakeToy, case: str) -> None:
    toy, formula = double(make_toy(*ROLES)), CASES[case][2]
    before = double(moved(toy))
    value = by_hand(toy, before, formula)
    (slope,) = torch.autograd.grad(value, toy.logits)
    assert loss_of(made(case), toy, before).total.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(gradient(made(case), toy, before), slope, rtol=1e-4, atol=1e-7)


@each_case
def test_pairs_add_up_and_half_a_pair_is_refused(make_toy: MakeToy, case: str) -> None:
    toy = make_toy(*ROLES)
    check_split(made(case), toy, together=2)
    with pytest.raises(RuntimeError, match="half a pair"):
        loss_of(made(case), toy, moved(toy), [0, 1, 2])


@each_name
def test_the_chosen_gains_on_the_rejected_and_swapped_sides_turn_that_around(make_toy: MakeToy, name: str) -> None:
    """Of the margin: some let both sides fall, the rejected faster."""
    toy = make_toy(*ROLES)
    swapped = Toy(toy.logits, tuple(Role.SAFETY if role is Role.FORGET else Role.FORGET for role in toy.roles))
    for turned, sign in ((toy, 1), (swapped, -1)):
        change = answers(stepped(objectives.build(name), turned, rate=0.1)) - answers(turned)
        assert (sign * (change[1::2] - change[0::2]) > 0).all()


@each_name
def test_what_is_kept_beside_it_is_two_cross_entropies(make_toy: MakeToy, name: str) -> None:
    toy = make_toy(*ROLES, Role.RETAIN, Role.RETAIN)
    before = moved(toy)
    plain = loss_of(objectives.build(name, {}), toy, before).parts
    parts = loss_of(objectives.build(name, {"sft": 0.5, "alpha": 2.0}), toy, before).parts
    assert float(parts["sft"]) == pytest.approx(0.5 * cross_entropy(toy, Role.SAFETY), rel=1e-5)
    assert float(parts["retain"]) == pytest.approx(2.0 * cross_entropy(toy, Role.RETAIN), rel=1e-5)
    own = {part: float(value) for part, value in plain.items() if part != "sft"}  # some have that anyway
    assert {part: float(parts[part]) for part in own} == pytest.approx(own)
    assert Role.RETAIN not in objectives.build(name).needs.roles
    kept = objectives.build(name, {"alpha": 1.0}).needs
    assert kept.roles == {Role.SAFETY, Role.FORGET, Role.RETAIN}
    assert Role.RETAIN not in kept.reference


def test_the_formulas_here_know_log_sigmoid() -> None:
    values = torch.tensor([-3.0, 0.0, 2.0])
    torch.testing.assert_close(_log_sigmoid(values), F.logsigmoid(values))
