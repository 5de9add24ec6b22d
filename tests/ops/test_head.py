"""Heads in pieces: the numbers and gradients of the plain computation, for any size of piece."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlmend.ops import head as module
from vlmend.ops.head import Head, kl, token_logps

N, D, V = 13, 6, 40


def given(*, bias: bool, trained: bool) -> tuple[Tensor, Head, Tensor]:
    chance = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=chance, dtype=torch.float64).requires_grad_()
    weight = torch.randn(V, D, generator=chance, dtype=torch.float64).requires_grad_(trained)
    shift = torch.randn(V, generator=chance, dtype=torch.float64).requires_grad_(trained) if bias else None
    return hidden, Head(weight, shift), torch.randint(V, (N,), generator=chance)


@pytest.mark.parametrize("pieces", [1, 3, 100])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_log_probabilities_and_gradients_are_those_of_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, pieces: int, trained: bool, bias: bool
) -> None:
    monkeypatch.setattr(module, "ELEMENTS", pieces * V)
    hidden, head, targets = given(bias=bias, trained=trained)
    slopes = torch.linspace(-1, 2, N, dtype=torch.float64)
    leaves = [hidden, *(t for t in head if t is not None and t.requires_grad)]
    true = -F.cross_entropy(head.logits(hidden), targets, reduction="none")
    wanted = torch.autograd.grad((slopes * true).sum(), leaves)
    ours = token_logps(hidden, head, targets)
    found = torch.autograd.grad((slopes * ours).sum(), leaves)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-6)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [2, 5, 100])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_divergence_and_its_gradients_are_torch_s(
    monkeypatch: pytest.MonkeyPatch, pieces: int, trained: bool, bias: bool
) -> None:
    """The head of before is another one than today's, unless it is frozen."""
    monkeypatch.setattr(module, "ELEMENTS", pieces * V)
    hidden, head, _ = given(bias=bias, trained=trained)
    before = (hidden + torch.linspace(0, 1, N, dtype=torch.float64)[:, None]).detach()
    first = Head(*(t if t is None else 0.5 * t.detach() for t in head)) if trained else head
    leaves = [hidden, *(t for t in head if t is not None and t.requires_grad)]
    now, was = (h.logits(states).log_softmax(-1) for h, states in ((head, hidden), (first, before)))
    true = F.kl_div(now, was, reduction="none", log_target=True).sum(-1)
    ours = kl(hidden, before, head, first)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-6)
    found, wanted = (torch.autograd.grad(values.square().sum(), leaves) for values in (ours, true))
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert float(kl(before, before, first, first).abs().max()) < 1e-6


def test_a_head_of_now_stays_what_it_is_when_other_weights_are_put_in_place() -> None:
    """As is done with the originals of trained weights: their storage is exchanged, not copied."""
    hidden, head, _ = given(bias=True, trained=True)
    weight, bias = (t.detach().clone() for t in head if t is not None)
    kept = head.now()
    was = kept.logits(hidden).detach()
    for parameter, other in zip(head, (2 * weight, bias + torch.arange(V)), strict=True):
        assert parameter is not None
        parameter.data = other
    assert torch.equal(kept.logits(hidden), was)
    assert not torch.allclose(head.logits(hidden), was)
    assert kept.frozen


def test_no_position_gives_nothing_and_no_gradient_costs_none() -> None:
    hidden, head, targets = given(bias=False, trained=False)
    empty = token_logps(hidden[:0], head, targets[:0])
    assert empty.shape == (0,)
    with torch.no_grad():
        assert not token_logps(hidden, head, targets).requires_grad
