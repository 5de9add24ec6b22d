"""Policy-gradient terms: identities, limits, and independence of what else is in the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlmend.ops.policy import (
    at_the_end,
    clipped,
    dead,
    entropy,
    full_kl,
    gae,
    group_relative,
    kl_estimate,
    last_tokens,
    leave_one_out,
    returns_to_go,
    stretched,
    value_loss,
    whitened,
)
from vlmend.ops.scored import Vocabulary

OWNER = torch.tensor([0, 0, 0, 1, 2, 2])
REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5])
GROUP = torch.tensor([0, 0, 0, 0, 2, 2, 2])


def logits(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_ratio_counts_up_to_where_it_is_clipped_and_no_further() -> None:
    ratio = torch.tensor([0.5, 0.9, 1.3, 0.5, 1.3], requires_grad=True)
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    loss = clipped(ratio, advantages, 0.2, 0.25)
    assert loss.tolist() == pytest.approx([-0.5, -0.9, -1.25, 0.8, 1.3])
    loss.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [-1.0, -1.0, 0.0, 0.0, 1.0]  # what is clipped away is not pushed on


def test_estimates_agree_with_the_exact_kl_on_a_small_vocabulary() -> None:
    """Each is summed over all tokens, weighted by how often the policy draws them."""
    now, before = logits(0, 5, 7).log_softmax(-1), logits(1, 5, 7).log_softmax(-1)
    exact = (now.exp() * (now - before)).sum(-1)
    for kind in ("k1", "k3"):
        assert torch.allclose((now.exp() * kl_estimate(now, before, kind)).sum(-1), exact)
    assert (kl_estimate(now, before, "k3") >= 0).all()
    assert torch.allclose(full_kl(Vocabulary(logits(0, 5, 7)), Vocabulary(logits(1, 5, 7))).double(), exact, atol=1e-6)


def test_the_gradient_of_k2_is_that_of_the_kl_and_k1s_is_nothing() -> None:
    raw, before = logits(0, 1, 7).requires_grad_(), logits(1, 1, 7).log_softmax(-1)
    now = raw.log_softmax(-1)
    weights = now.detach().exp()  # of samples: no gradient goes through them
    (exact,) = torch.autograd.grad((now.exp() * (now - before)).sum(), raw, retain_graph=True)
    (k2,) = torch.autograd.grad((weights * kl_estimate(now, before, "k2")).sum(), raw, retain_graph=True)
    (k1,) = torch.autograd.grad((weights * kl_estimate(now, before, "k1")).sum(), raw)
    assert torch.allclose(k2, exact)
    assert torch.allclose(k1, torch.zeros_like(k1), atol=1e-12)


def test_clamped_it_is_too_large_and_pays_nothing_for_coming_back() -> None:
    now, before = logits(0, 5, 7).log_softmax(-1), logits(1, 5, 7).log_softmax(-1)
    plain, clamped = (kl_estimate(now, before, kind) for kind in ("k1", "k1_clamped"))
    assert (clamped[plain > 0] == plain[plain > 0]).all()
    assert (clamped[plain < 0] == 0).all()
    assert ((now.exp() * clamped).sum(-1) > (now.exp() * plain).sum(-1)).all()


def test_stretched_over_zero_to_one() -> None:
    assert stretched(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert stretched(torch.tensor([2.0, 2.0])).tolist() == [0.0, 0.0]


def test_entropy_is_that_of_torch_and_has_its_gradient() -> None:
    raw = logits(2, 4, 6).float().requires_grad_()
    wanted = torch.distributions.Categorical(logits=raw).entropy()
    assert torch.allclose(entropy(Vocabulary(raw)), wanted, atol=1e-6)
    ours, theirs = (torch.autograd.grad(v.sum(), raw, retain_graph=True)[0] for v in (entropy(Vocabulary(raw)), wanted))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert entropy(Vocabulary(raw[:0])).shape == (0,)


def test_groups_are_measured_by_themselves() -> None:
    found = group_relative(REWARDS, GROUP)
    first = REWARDS[:4]
    assert torch.allclose(found[:4], (first - first.mean()) / first.std(), atol=1e-5)
    assert found[4:].tolist() == [0.0, 0.0, 0.0]
    scaled = REWARDS * torch.tensor([3.0] * 4 + [0.1] * 3) + GROUP
    assert torch.allclose(group_relative(scaled, GROUP), found, atol=1e-5)
    plain = group_relative(REWARDS, GROUP, std=False)
    assert torch.allclose(plain[:4], first - first.mean())
    assert dead(REWARDS, GROUP).tolist() == [False, True, True]  # group 1 has no answer at all


def test_what_is_equal_but_for_rounding_has_no_advantage() -> None:
    same = torch.full((7,), 0.1)
    for found in (group_relative(same, GROUP), group_relative(same, GROUP, std=False), leave_one_out(same, GROUP)):
        assert found.tolist() == [0.0] * 7


def test_leaving_one_out_is_the_distance_from_the_mean_blown_up() -> None:
    found = leave_one_out(REWARDS, GROUP)
    assert found[0].item() == pytest.approx(1 - 1 / 3)
    assert torch.allclose(found[:4], (REWARDS[:4] - REWARDS[:4].mean()) * 4 / 3)
    assert leave_one_out(torch.tensor([5.0]), torch.tensor([0])).item() == 0.0


def test_whitening_is_over_what_there_is() -> None:
    values = torch.tensor([1.0, 5.0, 3.0, 7.0])
    found = whitened(values)
    assert found.mean().abs() < 1e-6
    assert found.std().item() == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(whitened(3 * values - 8), found, atol=1e-5)
    assert whitened(values, shift=False).mean().item() == pytest.approx(4.0)
    assert whitened(values[:1]).tolist() == [0.0]


def test_a_reward_stands_at_the_last_token_that_was_said() -> None:
    assert last_tokens(OWNER).tolist() == [2, 3, 5]
    assert at_the_end(torch.tensor([1.0, 2.0, 3.0]), OWNER).tolist() == [0, 0, 1, 2, 0, 3]


def test_gae_between_its_limits() -> None:
    rewards, values = logits(3, 6), logits(4, 6)
    later = torch.tensor([values[1], values[2], 0.0, 0.0, values[5], 0.0], dtype=torch.float64)
    assert torch.allclose(gae(rewards, values, OWNER, 0.9, 0.0), rewards + 0.9 * later - values)
    come = torch.stack([rewards[:3].sum(), rewards[1:3].sum(), rewards[2], rewards[3], rewards[4:].sum(), rewards[5]])
    assert torch.allclose(returns_to_go(rewards, OWNER), come)
    assert torch.allclose(gae(rewards, values, OWNER, 1.0, 1.0), come - values)
    delta = rewards + 0.9 * later - values
    half = gae(rewards, values, OWNER, 0.9, 0.5)
    assert half[0].item() == pytest.approx((delta[0] + 0.45 * delta[1] + 0.45**2 * delta[2]).item())


def test_an_answers_credit_is_the_same_beside_longer_ones() -> None:
    rewards, values = logits(5, 6), logits(6, 6)
    whole = gae(rewards, values, OWNER, 0.95, 0.9)
    for answer in range(3):
        mine = answer == OWNER
        alone = gae(rewards[mine], values[mine], torch.zeros(int(mine.sum()), dtype=torch.long), 0.95, 0.9)
        assert torch.allclose(whole[mine], alone)


def test_values_are_clipped_only_where_that_makes_the_loss_larger() -> None:
    values, old, returns = torch.tensor([2.0, 0.5, 0.9]), torch.zeros(3), torch.tensor([2.0, 2.0, 0.0])
    assert value_loss(values, old, returns, None).tolist() == pytest.approx([0.0, 1.125, 0.405])
    assert value_loss(values, old, returns, 0.2).tolist() == pytest.approx([1.62, 1.62, 0.405])
