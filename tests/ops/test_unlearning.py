"""Unlearning terms on scalars: values by hand, limits, bounds, identities between losses."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import rel_entr, softmax

from vlmend.ops.preference import dpo
from vlmend.ops.scored import Vocabulary
from vlmend.ops.unlearning import ascent, control_vector, drift, kl_to_reference, npo, simnpo, steering

BETAS = (0.1, 0.7, 2.0)


def slope(value: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(value.sum(), at)
    return gradient


@pytest.mark.parametrize("beta", BETAS)
def test_npo_starts_at_two_log_two_over_beta_with_the_slope_of_ascent(beta: float) -> None:
    now = torch.tensor([-3.0, -40.0], requires_grad=True)
    value = npo(now, now.detach(), beta)
    assert value.tolist() == pytest.approx([2 / beta * math.log(2)] * 2)
    assert slope(value, now).tolist() == pytest.approx([1.0, 1.0])


def test_npo_is_minus_log_sigmoid_of_the_log_ratio() -> None:
    now, before = torch.tensor([-9.0, -1.0]), torch.tensor([-5.0, -4.0])
    by_hand = [-(2 / 0.3) * math.log(1 / (1 + math.exp(0.3 * ratio))) for ratio in (-4.0, 3.0)]
    assert npo(now, before, 0.3).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_npo_becomes_gradient_ascent_as_beta_falls() -> None:
    """Up to a constant the losses, and exactly the slopes."""
    now = torch.tensor([-3.0, -12.0, -7.0], requires_grad=True)
    before = torch.tensor([-5.0, -4.0, -7.0])
    beta = 1e-4
    value = npo(now, before, beta)
    assert torch.allclose(value - 2 / beta * math.log(2), ascent(now) - before, atol=1e-2)
    assert torch.allclose(slope(value, now), slope(ascent(now), now), atol=1e-3)


@pytest.mark.parametrize(
    ("beta", "increase", "multiplier"),
    [(0.1, 0.1, 0.538), (0.1, 0.5, 0.013), (0.1, 1.0, 9e-5)],
)
def test_npo_on_a_whole_answer_stops_where_the_published_table_says(
    beta: float, increase: float, multiplier: float
) -> None:
    """100 tokens, each `increase` nats less likely than before: what the gradient is multiplied by."""
    now = torch.tensor([-100 * (1.0 + increase)], requires_grad=True)
    assert slope(npo(now, torch.tensor([-100.0]), beta), now).item() == pytest.approx(multiplier, rel=0.05)


@pytest.mark.parametrize(("beta", "increase", "multiplier"), [(0.1, 1.0, 0.95), (0.7, 2.0, 0.396), (0.9, 5.0, 0.022)])
def test_npo_on_a_mean_per_token_barely_brakes(beta: float, increase: float, multiplier: float) -> None:
    now = torch.tensor([-1.0 - increase], requires_grad=True)
    assert slope(npo(now, torch.tensor([-1.0]), beta), now).item() == pytest.approx(multiplier, rel=0.02)


def test_npo_is_bounded_and_finite_where_ascent_is_neither() -> None:
    now = torch.tensor([-1e6, 1e6], requires_grad=True)
    value = npo(now, torch.zeros(2), 0.5)
    assert value[0].item() == 0.0
    assert torch.isfinite(value).all()
    assert slope(value, now).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("beta", BETAS)
def test_dpo_without_a_chosen_answer_is_npo(beta: float) -> None:
    rejected, before, zero = torch.randn(4) - 5, torch.randn(4) - 5, torch.zeros(4)
    assert torch.allclose(2 / beta * dpo(zero, rejected, zero, before, beta), npo(rejected, before, beta))


@pytest.mark.parametrize("beta", BETAS)
def test_simnpo_is_npo_of_the_mean_with_a_reference_of_certainty(beta: float) -> None:
    logps, lengths = torch.tensor([-30.0, -8.0]), torch.tensor([10.0, 4.0])
    assert torch.allclose(simnpo(logps, lengths, beta), npo(logps / lengths, torch.zeros(2), beta))
    assert torch.all(simnpo(logps, lengths, beta, delta=1.0) > simnpo(logps, lengths, beta))


def test_a_floor_stops_the_push_token_by_token() -> None:
    logps = torch.tensor([-2.0, -11.0], requires_grad=True)
    assert ascent(logps).tolist() == [-2.0, -11.0]
    assert ascent(logps, floor=10.0).tolist() == [-2.0, -10.0]
    assert slope(ascent(logps, floor=10.0), logps).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_kl_is_that_of_scipy_in_any_chunks(chunk: int) -> None:
    torch.manual_seed(0)
    now, before = torch.randn(7, 13, dtype=torch.float64), torch.randn(7, 13, dtype=torch.float64)
    found = kl_to_reference(Vocabulary(now), Vocabulary(before), chunk)
    oracle = rel_entr(softmax(before.numpy(), axis=1), softmax(now.numpy(), axis=1)).sum(axis=1)
    assert found.tolist() == pytest.approx(oracle.tolist(), rel=1e-5)


def test_kl_of_a_model_with_itself_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(5, 9, requires_grad=True)
    value = kl_to_reference(Vocabulary(logits), Vocabulary(logits.detach().clone()))
    assert value.tolist() == pytest.approx([0.0] * 5, abs=1e-6)
    assert slope(value, logits).abs().max() < 1e-6


def test_kl_of_no_positions_is_empty() -> None:
    logits = torch.randn(0, 9, requires_grad=True)
    assert kl_to_reference(Vocabulary(logits), Vocabulary(logits.detach())).shape == (0,)


def test_a_control_vector_has_norm_one_and_follows_from_its_seed() -> None:
    for kind in ("gaussian", "uniform"):
        one, again, other = (control_vector(512, kind, seed) for seed in (1, 1, 2))
        assert one.norm().item() == pytest.approx(1.0)
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


def test_a_uniform_control_vector_is_hardly_random() -> None:
    pairs = {k: [control_vector(4096, k, seed) for seed in (1, 2)] for k in ("gaussian", "uniform")}
    cosines = {kind: float(one @ two) for kind, (one, two) in pairs.items()}
    assert cosines["uniform"] == pytest.approx(0.75, abs=0.02)
    assert abs(cosines["gaussian"]) < 0.06
    assert (pairs["uniform"][0] >= 0).all()


def test_steering_is_zero_on_target_and_a_mean_square_elsewhere() -> None:
    control = control_vector(8, "gaussian", 0)
    states = torch.stack([6.5 * control, torch.zeros(8)])
    assert steering(states, control, 6.5).tolist() == pytest.approx([0.0, 6.5**2 / 8], abs=1e-6)
    per_position = steering(states, control, torch.tensor([6.5, 2.0]))
    assert per_position.tolist() == pytest.approx([0.0, 4.0 / 8], abs=1e-6)
    assert drift(states, states + 2.0).tolist() == [4.0, 4.0]
