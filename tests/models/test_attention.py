"""Attention run by run is attention under the mask, forward and backward."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from vlmend.models import attention
from vlmend.models.attention import RUNS, attend, runs
from vlmend.models.prefix import visible


def until_of(seed: int, width: int) -> list[int]:
    """Two trees of random shape, then padding."""
    chance = random.Random(seed)

    def tree(start: int, end: int) -> list[int]:
        trunk = chance.randint(1, max(1, (end - start) // 2))
        found, at = [end] * trunk, start + trunk
        while at < end:
            stop = chance.randint(at + 1, end)
            found += tree(at, stop) if stop - at > 3 and chance.random() < 0.6 else [stop] * (stop - at)
            at = stop
        return found

    used = width - chance.randint(0, 5)
    return [*tree(0, used // 2), *tree(used // 2, used), *[0] * (width - used)]


@pytest.mark.parametrize("seed", range(12))
def test_outputs_and_gradients_are_those_of_the_mask(seed: int) -> None:
    width, groups = 24, 1 + seed % 2
    until = torch.tensor([until_of(seed, width), until_of(seed + 100, width)])
    mask = visible(until, "sdpa", torch.float32)
    assert hasattr(mask, RUNS)
    chance = torch.Generator().manual_seed(seed)
    module = SimpleNamespace(num_key_value_groups=groups, is_causal=True, training=False)
    sizes = [(2, 2 * groups, width, 8), (2, 2, width, 8), (2, 2, width, 8)]
    given = [torch.randn(size, generator=chance, dtype=torch.float64).requires_grad_() for size in sizes]
    one, _ = attend(module, *given, mask, dropout=0.0, scaling=0.3)  # type: ignore[arg-type]
    two, _ = attend(module, *given, mask.clone(), dropout=0.0, scaling=0.3)  # type: ignore[arg-type]
    real = (until > 0)[:, :, None, None]
    slope = torch.randn(one.shape, generator=chance, dtype=torch.float64) * real
    torch.testing.assert_close(one * real, two * real)
    wanted = torch.autograd.grad((two * slope).sum(), given)
    for found, true in zip(torch.autograd.grad((one * slope).sum(), given), wanted, strict=True):
        torch.testing.assert_close(found, true)


def test_runs_are_the_unbranched_pieces() -> None:
    """A trunk of 3 with two branches of 2 and 1, then a tree by itself, then padding."""
    assert runs([6, 6, 6, 5, 5, 6, 8, 8, 0, 0]) == [(0, 3, ()), (3, 5, (0,)), (5, 6, (0,)), (6, 8, ())]


def test_a_run_computes_with_nothing_but_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def count(module: object, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: object, **_: object):
        seen.append((query.shape[2], key.shape[2]))
        return query.transpose(1, 2), None

    monkeypatch.setattr(attention, "sdpa_attention_forward", count)
    until = torch.tensor([[500 + 8 * 60] * 500 + [500 + 60 * (i + 1) for i in range(8) for _ in range(60)]])
    given = torch.zeros(1, 1, until.shape[1], 4)
    attend(torch.nn.Module(), given, given, given, visible(until, "sdpa", torch.float32))
    assert seen == [(500, 500)] + [(60, 560)] * 8


def chosen(dtype: torch.dtype, keys: int, *, learns: bool = True, autocast: bool = False) -> bool:
    """Whether plain products are taken for so many keys, with gradients or without."""
    query, key = (torch.zeros(1, 1, n, 8, dtype=dtype, requires_grad=learns) for n in (3, keys))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast), attention.kernel(query, key, key):
        plain = not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    return plain


def test_plain_products_are_for_short_rows_in_16_bits_that_learn() -> None:
    for dtype, most in attention.PLAIN.items():
        assert chosen(dtype, most)
        assert not chosen(dtype, most + 1)
        assert not chosen(dtype, most, learns=False)
        with torch.no_grad():
            assert not chosen(dtype, most)
    assert not chosen(torch.float32, 1)
    assert chosen(torch.float32, 1, autocast=True)  # what counts is what it is computed in


@pytest.mark.parametrize("dtype", attention.PLAIN)
def test_plain_products_are_no_less_exact(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients lie as near to those in 64 bits as by torch's own choice, and are not the same ones."""
    chance = torch.Generator().manual_seed(0)
    module = SimpleNamespace(num_key_value_groups=3, is_causal=True, training=False)
    sizes = [(2, 6, 40, 16), (2, 2, 40, 16), (2, 2, 40, 16), (2, 40, 6, 16)]
    given = [torch.randn(size, generator=chance).to(dtype) for size in sizes]

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [t.detach().to(dtype).requires_grad_() for t in given[:3]]
        out, _ = attend(module, *inputs, None, dropout=0.0, scaling=0.25)  # type: ignore[arg-type]
        return [out.detach().double(), *(g.double() for g in torch.autograd.grad(out, inputs, given[3].to(dtype)))]

    true, plain = run(torch.float64), run(dtype)
    monkeypatch.setattr(attention, "PLAIN", {})
    usual = run(dtype)
    assert any(not torch.equal(one, other) for one, other in zip(plain, usual, strict=True))
    for one, other, wanted in zip(plain, usual, true, strict=True):
        assert (one - wanted).norm() <= 1.5 * (other - wanted).norm()
        assert (one - wanted).norm() < 0.02 * wanted.norm()
