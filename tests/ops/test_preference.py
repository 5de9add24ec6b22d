"""Preference terms on scalars: values by hand, limits, least points."""

from __future__ import annotations

import math

import pytest
import torch

from vlmend.ops.preference import dpo, log_odds, preferred


def slope(value: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(value.sum(), at)
    return found


def test_a_preference_by_hand() -> None:
    margin = torch.tensor([math.log(3.0), 0.0, -math.log(4.0)], dtype=torch.float64)  # sigmoids 3/4, 1/2, 1/5
    assert preferred(margin).tolist() == pytest.approx([math.log(4 / 3), math.log(2), math.log(5)])
    smoothed = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert preferred(margin, 0.1)[0].item() == pytest.approx(smoothed)


def test_its_slope_is_the_share_it_is_wrong_by() -> None:
    margin = torch.tensor([-2.0, 0.0, 5.0], dtype=torch.float64, requires_grad=True)
    for smoothing in (0.0, 0.2, 0.5):
        wrong = torch.sigmoid(margin.detach()) - (1 - smoothing)
        torch.testing.assert_close(slope(preferred(margin, smoothing), margin), wrong)


def test_far_margins_stay_finite() -> None:
    margin = torch.tensor([-1e4, 1e4], requires_grad=True)
    assert preferred(margin).tolist() == pytest.approx([1e4, 0.0])
    assert slope(preferred(margin), margin).tolist() == pytest.approx([-1.0, 0.0])


def test_dpo_sees_log_ratios_alone() -> None:
    sides = [torch.tensor([value], dtype=torch.float64) for value in (-3.0, -7.0, -5.0, -4.0)]  # ratios 2 and -3
    assert dpo(*sides, beta=0.1).item() == pytest.approx(math.log(1 + math.exp(-0.5)))
    shifted = [value - 11 for value in sides]
    assert dpo(*shifted, beta=0.1).item() == pytest.approx(dpo(*sides, beta=0.1).item())
    swapped = [sides[i] for i in (1, 0, 3, 2)]
    assert dpo(*swapped, beta=0.1).item() == pytest.approx(math.log(1 + math.exp(0.5)))


def test_log_odds_by_hand_and_where_it_ends() -> None:
    p = torch.tensor([0.75, 0.5, 1e-30])
    assert log_odds(p.log()).tolist() == pytest.approx([math.log(3), 0.0, math.log(1e-30)], abs=1e-6)
    sure = torch.tensor([0.0, -1e-12, -1e-3], requires_grad=True)
    values, slopes = log_odds(sure), slope(log_odds(sure), sure)
    assert values.isfinite().all()
    assert values[0] == values[1] > values[2]
    assert slopes.tolist() == pytest.approx([0.0, 0.0, 1 / -math.expm1(-1e-3)], rel=1e-3)
