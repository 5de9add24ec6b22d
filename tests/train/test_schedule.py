"""The learning rate: transformers' curves, no step at rate zero, and zero at the end."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from vlmend.config import TrainConfig, parse_recipe
from vlmend.errors import ConfigError
from vlmend.train.schedule import adamw, rate_factor, set_rate, warmup_steps


@pytest.mark.parametrize(
    ("kind", "theirs"), [("cosine", get_cosine_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup)]
)
def test_after_warm_up_the_curve_is_that_of_transformers(kind: str, theirs: object) -> None:
    for warmup in (0, 4):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = theirs(optimizer, warmup, 20)  # type: ignore[operator]
        for step in range(20):
            if step >= warmup:
                assert rate_factor(step, 20, warmup, kind) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
            optimizer.step()
            schedule.step()
        assert schedule.get_last_lr()[0] == pytest.approx(rate_factor(20, 20, warmup, kind), abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant_with_warmup"])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
def test_no_step_is_wasted_and_the_end_is_exactly_zero(kind: str, total: int) -> None:
    config = TrainConfig(warmup_ratio=0.1, lr_scheduler_type=kind)
    warmup = warmup_steps(config, total)
    factors = [rate_factor(step, total, warmup, kind) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: warmup + 1] == sorted(factors[: warmup + 1])
    assert factors[warmup] == 1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert set_rate(optimizer, config, total, total) == 0.0 == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant_with_warmup"])
def test_warm_up_rises_by_equal_steps_to_the_whole_rate(kind: str) -> None:
    """Three of ten steps at a quarter, a half and three quarters; the fourth has the rate of the recipe."""
    config = TrainConfig(learning_rate=8e-4, warmup_ratio=0.25, lr_scheduler_type=kind)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = [set_rate(optimizer, config, step, 10) for step in range(4)]
    assert rates == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4], rel=1e-12)
    assert optimizer.param_groups[0]["lr"] == rates[-1]


@pytest.mark.parametrize(
    ("ratio", "total", "steps"),
    [(0.0, 10, 0), (0.03, 100, 3), (0.03, 101, 4), (0.25, 10, 3), (0.001, 10, 1), (1.0, 10, 9), (0.5, 1, 0)],
)
def test_warm_up_takes_its_share_of_the_steps_rounded_up_and_never_all(ratio: float, total: int, steps: int) -> None:
    assert warmup_steps(TrainConfig(warmup_ratio=ratio), total) == steps


def test_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    groups = adamw(dict(model.named_parameters()), TrainConfig(weight_decay=0.1)).param_groups
    assert {p.ndim: group["weight_decay"] for group in groups for p in group["params"]} == {2: 0.1, 1: 0.0}


def test_the_projectors_rate_follows_the_same_curve_from_its_own_peak() -> None:
    config = TrainConfig(learning_rate=8e-4, projector_learning_rate=2e-5, warmup_ratio=0.25, weight_decay=0.1)
    names = ("multi_modal_projector.linear_1.weight", "language_model.q.lora_A.weight", "multi_modal_projector.bias")
    weights = {name: torch.nn.Parameter(torch.zeros((2,) * (2 if "weight" in name else 1))) for name in names}
    optimizer = adamw(weights, config)
    for step in range(20):
        assert set_rate(optimizer, config, step, 20) == 8e-4 * rate_factor(step, 20, 5, "cosine")
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        factors = [rates[id(weights[name])] / peak for name, peak in zip(names, (2e-5, 8e-4, 2e-5), strict=True)]
        assert factors == pytest.approx([rate_factor(step, 20, 5, "cosine")] * 3, rel=1e-12)
    set_rate(optimizer, config, 20, 20)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decays[id(weights[name])] for name in names] == [0.1, 0.1, 0.0]


def test_a_rate_of_a_projector_that_is_not_trained_is_refused() -> None:
    weights = {"language_model.weight": torch.nn.Parameter(torch.zeros(2, 2))}
    with pytest.raises(ConfigError, match="no weight of a projector"):
        adamw(weights, TrainConfig(projector_learning_rate=2e-5))
    plain = {"model": {"name": "world"}, "data": {"mix": [{"source": "world"}]}, "output": {"dir": "o"}}
    with pytest.raises(ConfigError, match=r"model\.train is \[language_model\]") as caught:
        parse_recipe({**plain, "train": {"projector_learning_rate": 2e-5}})
    assert "\n" not in str(caught.value)
