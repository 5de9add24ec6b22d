"""How far weights moved, and how many of them: by hand, and what is said of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from vlmend.train.moved import Moved, compare, percent, snapshot


def adam(*parameters: Parameter) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=1e-6, weight_decay=0.0)


def test_norm_and_shares_are_those_counted_by_hand() -> None:
    first, second = Parameter(torch.zeros(2, 3)), Parameter(torch.ones(4))
    optimizer = adam(first, second)
    first.grad = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # three of six have one, and the other four none
    optimizer.step()
    weights = {"a.weight": first, "b.lora_A.weight": second}
    before = snapshot(weights)
    with torch.no_grad():
        first += torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        second += torch.tensor([4.0, 1e-3, 1e-3, 0.0])  # at 1, bfloat16 has a neighbor 1/128 above
    found = compare(before, weights, optimizer)
    assert found.norm == pytest.approx(5.0, rel=1e-6)
    assert (found.share, found.idle, found.kept) == (0.4, 0.7, None)
    rounded = compare(before, weights, optimizer, torch.bfloat16)
    assert (rounded.dtype, rounded.kept) == ("bfloat16", 0.2)
    without = compare(before, weights, optimizer, torch.bfloat16, adapters=False)
    assert without.kept == pytest.approx(1 / 6)
    assert compare(before, {"b.lora_A.weight": second}, optimizer, torch.bfloat16, adapters=False).kept is None


def test_a_copy_is_short_where_that_loses_nothing_and_never_where_it_does() -> None:
    read, drawn = torch.randn(50).bfloat16().float(), torch.randn(50)
    kept = snapshot({"read": Parameter(read), "drawn": Parameter(drawn)})
    assert (kept["read"].dtype, kept["drawn"].dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(kept["read"].float(), read)
    assert torch.equal(kept["drawn"], drawn)
    weight = Parameter(torch.ones(3))
    kept = snapshot({"w": weight})
    with torch.no_grad():
        weight += 1
    assert kept["w"].tolist() == [1, 1, 1], "a copy, not a view"


def test_few_that_moved_are_a_warning_unless_the_rest_never_had_a_gradient() -> None:
    assert "only 0.21 % of the trained weights moved: steps may be too small" in Moved(1e-3, 0.0021).warning("auto")
    assert "(20 % never had a gradient)" in Moved(1e-3, 0.3, idle=0.2).warning("auto")
    assert Moved(1e-3, 0.3, idle=0.6).warning("auto") == ""
    assert Moved(1e-3, 0.9995).warning("auto") == ""


def test_an_update_that_16_bits_would_lose_is_a_warning_that_says_where() -> None:
    lost = Moved(1e-3, 0.9995, 0.0, "bfloat16", 0.004)
    assert "99.95 % of the trained weights moved, by 0.001 in all; in bfloat16, 0.40 % differ" in lost.says()
    assert "saved in float32; loaded or served in bfloat16, most of the update is lost" in lost.warning("auto")
    assert "so they are saved: output.dtype=float32 keeps the whole update" in lost.warning("bfloat16")
    assert Moved(1e-3, 0.9995, 0.0, "bfloat16", 0.8).warning("bfloat16") == ""


@pytest.mark.parametrize(
    ("share", "says"),
    [(0.0, "0 %"), (1.0, "100 %"), (1e-6, "less than 0.01 %"), (1 - 1e-6, "more than 99.99 %"), (0.12345, "12.35 %")],
)
def test_a_share_is_called_none_or_all_only_when_it_is(share: float, says: str) -> None:
    assert percent(share) == says
