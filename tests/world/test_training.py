"""Laws of training from scratch: it is reproducible, it learns, and the fast paths change no number."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from vlmend.world.model import build_model, build_processor
from vlmend.world.muon import orthogonalized, orthogonalized_together
from vlmend.world.train import (
    COOLING,
    TASKS,
    Told,
    collate,
    draw_conversation,
    factor,
    learn,
    losses_of,
    shares_at,
    train,
)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (train(seed, 3, quiet=True)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def _learn(rank: int, size: int, folder: str) -> None:
    """One process's part of `learn` and of Muon's work; the gradient, and what became of the matrices, go to a file."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    processor = build_processor()
    model = build_model(processor.tokenizer, 0)
    rng = np.random.default_rng(0)
    loss = learn(model, processor, [draw_conversation(rng, "train") for _ in range(12)])
    grads = {name: p.grad for name, p in model.named_parameters()}
    torch.manual_seed(0)
    turned = orthogonalized_together(torch.randn(5, 6, 9))
    torch.save((loss, {**grads, "matrices turned together": turned}), f"{folder}/{rank}of{size}.pt")


def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    _learn(0, 1, str(tmp_path))
    spawn(_learn, args=(2, str(tmp_path)), nprocs=2)
    (loss, alone), (first, one), (second, two) = (
        torch.load(tmp_path / f"{name}.pt") for name in ("0of1", "0of2", "1of2")
    )
    assert first == second == pytest.approx(loss, abs=1e-4)
    for name, grad in alone.items():
        assert torch.equal(one[name], two[name])
        assert torch.allclose(one[name], grad, atol=1e-5), name


def test_the_loss_visits_the_supervised_tokens_only() -> None:
    processor = build_processor()
    model = build_model(processor.tokenizer, 0).eval()
    batch = collate([draw_conversation(np.random.default_rng(1), "train") for _ in range(6)], processor)
    labels = batch.ids.masked_fill(~batch.supervised, -100)
    with torch.no_grad():
        plain = model(input_ids=batch.ids, pixel_values=batch.pixels, labels=labels).loss
        assert torch.allclose(losses_of(model, batch).mean(), plain, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_orthogonalized_matrices_turn_and_do_not_stretch(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    stack = torch.randn(shape)
    out = orthogonalized(stack)
    singular = torch.linalg.svdvals(out)
    assert singular.min() > 0.3
    assert singular.max() < 1.5
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    turned = left.mT @ out @ right.mT  # in the matrix's own directions, nothing off the diagonal
    assert (turned - torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-3


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [factor(step, 1000) for step in range(1001)]
    assert rates[0] < 0.02
    assert all(later >= earlier for earlier, later in pairwise(rates[:100]))
    assert set(rates[100 : int(1000 * (1 - COOLING))]) == {1.0}
    assert all(later < earlier for earlier, later in pairwise(rates[-int(1000 * COOLING) :]))
    assert rates[1000] == 0.0


def test_much_is_described_first() -> None:
    first, later = shares_at(0.05), shares_at(0.5)
    assert later == TASKS
    assert first["describe"] / sum(first.values()) > 0.5
    assert sorted(first) == sorted(TASKS)


def test_progress_goes_by_time_and_estimates_late(capsys: pytest.CaptureFixture[str]) -> None:
    """A first step of 30 s, then one a second: a line every ten seconds, an estimate once there is a minute of it."""
    now = [0.0]
    told = Told(200, lambda: now[0])
    now[0] = 30.0
    told.step(4.0)
    for _ in range(199):
        now[0] += 1.0
        told.step(1.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1/200  loss 4.000"
    assert [line.split()[1] for line in lines[1:4]] == ["11/200", "21/200", "31/200"]
    assert not any("left" in line for line in lines[:6])
    assert lines[6].endswith("2:19 left")
    assert all("left" in line for line in lines[6:-1])
    assert lines[-1].startswith("step 200/200")


def test_passes_in_bfloat16_point_where_those_in_float32_do_and_leave_the_weights_theirs() -> None:
    found: list[torch.Tensor] = []
    for dtype in (torch.float32, torch.bfloat16):
        processor = build_processor()
        model = build_model(processor.tokenizer, 0)
        rng = np.random.default_rng(0)
        learn(model, processor, [draw_conversation(rng, "train") for _ in range(8)], dtype)
        moved = [p for p in model.parameters() if p.grad is not None]
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in moved if p.grad is not None)
        found.append(torch.cat([p.grad.flatten() for p in moved if p.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.995
    assert not torch.equal(*found)
