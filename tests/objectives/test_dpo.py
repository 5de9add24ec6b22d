"""Direct preference optimization against the loss as TRL writes it, and against NPO."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.objectives.conftest import MakeToy, moved
from tests.objectives.laws import answers, check_split, loss_of, stepped
from vlmend.objectives.dpo import Dpo
from vlmend.types import Role

ROLES = (Role.FORGET, Role.SAFETY, Role.FORGET, Role.SAFETY)


def test_it_is_the_sigmoid_loss_of_trl(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    before = moved(toy)
    logps, old = answers(toy), answers(before)
    chosen_logratios, rejected_logratios = (logps - old)[1::2], (logps - old)[0::2]
    theirs = -F.logsigmoid(0.3 * (chosen_logratios - rejected_logratios)).mean()
    assert loss_of(Dpo(beta=0.3), toy, before).total.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_pairs_add_up(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    before = moved(toy)
    halves = [loss_of(Dpo(), toy, before, rows).total for rows in ([0, 1], [2, 3])]
    assert torch.stack(halves).sum().item() == pytest.approx(loss_of(Dpo(), toy, before).total.item(), rel=1e-5)
    with pytest.raises(RuntimeError):  # half a pair cannot be scored
        check_split(Dpo(), toy)


def test_the_refusal_rises_and_the_forgotten_falls(make_toy: MakeToy) -> None:
    toy = make_toy(*ROLES)
    change = answers(stepped(Dpo(), toy, rate=20.0)) - answers(toy)
    assert [bool(value > 0) for value in change] == [False, True, False, True]
