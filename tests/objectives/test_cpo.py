"""CPO: DPO before a model to which all answers were alike."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.conftest import MakeToy, Toy
from tests.objectives.laws import gradient, loss_of
from vlmend.objectives.cpo import Cpo
from vlmend.objectives.dpo import Dpo
from vlmend.types import Role


def test_without_its_likelihood_it_is_dpo_before_a_uniform_model(make_toy: MakeToy) -> None:
    """Of sides that are equally long, to which such a model gives one probability."""
    toy = make_toy(Role.FORGET, *[Role.UTILITY] * 4, Role.SAFETY)  # both of five tokens
    uniform = Toy(torch.zeros_like(toy.logits), toy.roles)
    one, two = Cpo(sft=0.0), Dpo(beta=0.1)
    pair = [0, 5]
    assert loss_of(one, toy, rows=pair).total.item() == pytest.approx(loss_of(two, toy, uniform, pair).total.item())
    torch.testing.assert_close(gradient(one, toy, rows=pair), gradient(two, toy, uniform, pair))
    assert Cpo().needs.reference == frozenset()
