"""The faster ways give the losses, gradients and weights of the plain one, in every family and for every method."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from tests.models import tiny
from tests.train.conftest import ready
from vlmend.config import Recipe, SpeedConfig, parse_recipe
from vlmend.models.prefix import plain
from vlmend.train.layers import find_layer
from vlmend.train.loop import Tuning, accumulate, encode, take_step
from vlmend.train.reference import Live
from vlmend.train.scoring import count_totals
from vlmend.train.speed import choose
from vlmend.types import Role

WAYS = ("shared_prefix", "packing", "answer_logits", "stop_at_layer", "features")
SLOW = dict.fromkeys(WAYS, False)
ANSWERS = ("It bursts.", "Two rings.", "The star is over there, to the left.", "No.")
METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "gd": {"pd": True},
    "npo": {"alpha_npo": 0.5},
    "kl": {},
    "dpo": {"alpha": 0.5, "picture_negatives": True},
    "orpo": {},
    "kto": {},
    "rmu": {"layer": 0, "pd": True, "alpha_hidden": 0.5, "scale": "adaptive", "coefficient": 2.0},
}
PICTURES = {"a": (24, 30), "b": (40, 24), "c": (24, 24)}


@pytest.fixture(scope="module", params=["llava", "llava_onevision", "qwen2_5_vl", "internvl", "smolvlm"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SafeEraser's shape: several questions about each of two pictures, forgotten, refused and retained; each forgotten
    one also about a third picture, which is harmless. One question without a picture, one of two turns."""
    place = tmp_path_factory.mktemp("rows")
    for i, (name, size) in enumerate(PICTURES.items()):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(place / f"{name}.png")
    found: list[dict[str, Any]] = []
    for i in range(4):
        asked = {"prompt": f"{'How? ' * (i % 3)}{i}", "pair": f"p{i}", "images": [f"{'ab'[i % 2]}.png"]}
        found.append({**asked, "id": f"forget{i}", "answer": ANSWERS[i], "role": "forget"})
        found.append({**asked, "id": f"refuse{i}", "answer": "Sorry, no.", "role": "safety"})
        found.append({**asked, "id": f"decouple{i}", "answer": ANSWERS[i - 1], "images": ["c.png"], "role": "decouple"})
        kept = {"prompt": f"What is {i}?", "images": asked["images"] if i else []}
        found.append({**kept, "id": f"retain{i}", "answer": ANSWERS[i].upper(), "role": "retain"})
    path = place / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


Make = Callable[..., Tuning]


@pytest.fixture
def make(folder: Path, rows: Path, tmp_path: Path) -> Make:
    """A run about to take its first step, moved off its reference: `make("npo", speed=…, model=…, train=…)`."""

    def run(name: str, speed: dict[str, Any], model: dict[str, Any] | None = None, **train: Any) -> Tuning:
        steps = {"learning_rate": 0.01, "per_device_train_batch_size": 8, "max_steps": 20, "logging_steps": 1}
        recipe = parse_recipe(
            {
                "model": {"name": str(folder), "device": "cpu", "lora": {"r": 4, "lora_alpha": 8}, **(model or {})},
                "method": {"name": name, **METHODS[name]},
                "data": {"mix": [{"source": f"jsonl:{rows}"}]},
                "train": {**steps, **train},
                "speed": speed,
                "output": {"dir": str(tmp_path / "out")},
            }
        )
        return started(recipe)

    return run


def started(recipe: Recipe) -> Tuning:
    run = ready(recipe)
    if run.objective.needs.reference:
        run.reference = Live(run.before, {})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in run.trained.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return run


def gradient(run: Tuning) -> tuple[torch.Tensor, dict[str, float], int]:
    """Gradient of the first step, its values, and how many tokens went through the model."""
    window = encode(run, 0)
    values = accumulate(run, window)
    fed = sum((part.feed or plain(m.batch)).tokens for m in window for part in m.parts)
    fed = fed or sum(m.batch.labels.numel() for m in window)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in run.trained.values()]
    return torch.cat([g.flatten() for g in grads]).double(), values, fed


def same(one: tuple[torch.Tensor, dict[str, float], int], two: tuple[torch.Tensor, dict[str, float], int]) -> None:
    assert (one[0] - two[0]).norm() <= 1e-5 * two[0].norm()
    assert one[1] == pytest.approx(two[1], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_are_the_plain_ones(make: Make, name: str) -> None:
    fast, slow = gradient(make(name, {})), gradient(make(name, SLOW))
    same(fast, slow)
    assert fast[2] < 0.9 * slow[2]  # something was shared, or this shows nothing


@pytest.mark.parametrize("way", ["shared_prefix", "packing", "answer_logits", "features"])
def test_each_way_alone_is_exact(make: Make, way: str) -> None:
    same(gradient(make("gd", {**SLOW, way: True})), gradient(make("gd", SLOW)))


@pytest.mark.parametrize(
    "model", [{"train": ["language_model", "projector"]}, {"tune": "full"}], ids=["beside", "full"]
)
def test_a_projector_and_a_head_that_are_tuned_get_their_gradient(make: Make, model: dict[str, Any]) -> None:
    model = {"train": ["language_model", "projector", "vision_tower"], **model}
    fast, slow = gradient(make("gd", {}, model)), gradient(make("gd", SLOW, model))
    same(fast, slow)


@pytest.mark.parametrize("attention", ["eager"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_eager_attention_and_checkpointed_layers_too(make: Make, attention: str, checkpointing: bool) -> None:
    model, train = {"attn_implementation": attention}, {"gradient_checkpointing": checkpointing}
    fast = gradient(make("rmu", {}, model, **train))
    same(fast, gradient(make("rmu", SLOW, model, **train)))


@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_block_masks_give_the_same_log_probabilities(make: Make, folder: Path) -> None:
    """Forward only: FlexAttention has no backward pass on a CPU."""
    if not folder.name.startswith("llava0"):
        pytest.skip("one family will do, and not all take it")
    found: list[torch.Tensor] = []
    for attention in ("flex_attention", "sdpa"):
        run = make("sft", {}, {"attn_implementation": attention})
        window = encode(run, 0)
        assert any(part.feed and part.feed.until is not None for part in window[0].parts)
        torch.compiler.set_stance("force_eager")  # transformers would have it compiled, which takes a minute
        try:
            with torch.no_grad():
                found.append(run.forward(window[0], count_totals(window, run.team)).logps)
        finally:
            torch.compiler.set_stance("default")
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gd", "npo"])
def test_twenty_steps_end_at_the_same_weights(make: Make, name: str) -> None:
    ends: list[dict[str, torch.Tensor]] = []
    for speed in ({}, SLOW):
        run = make(name, speed, per_device_train_batch_size=4, learning_rate=1e-3)
        for step in range(20):
            run.progress.step = step
            take_step(run, encode(run, step))
        ends.append({n: p.detach().clone() for n, p in run.trained.items()})
    assert max(float((ends[0][n] - ends[1][n]).abs().max()) for n in ends[0]) < 1e-4


def test_a_pass_by_tokens_changes_nothing_but_the_passes(make: Make) -> None:
    whole, cut = make("gd", {}), make("gd", {"tokens_per_pass": 40})
    assert len(encode(whole, 0)) == 1
    passes = encode(cut, 0)
    assert len(passes) > 1
    shown = [e.id for micro in passes for e in micro.batch.examples]
    assert sorted(shown) == sorted(e.id for e in encode(whole, 0)[0].batch.examples)
    same(gradient(cut), gradient(whole))


def test_layers_above_the_one_looked_at_do_not_run(make: Make) -> None:
    run = make("rmu", {})
    run = replace(run, objective=replace(run.objective.base, alpha=0.0, alpha_hidden=0.0))  # type: ignore[attr-defined]
    ran: list[int] = []
    for layer in (0, 1):
        find_layer(run.model, layer).register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    run.reference = Live(run.before, {})
    accumulate(run, encode(run, 0))
    assert set(ran) == {0}
    assert len(ran) == 2  # the model, and the model before tuning
    language = find_layer(run.model, 1)  # and the layers are back
    assert language is not None


def test_what_a_method_does_not_name_it_does_not_get(make: Make) -> None:
    run = make("rmu", {})
    micro = encode(run, 0)[0]
    scored = run.forward(micro, count_totals([micro], run.team))
    with pytest.raises(RuntimeError, match="do not name"):
        _ = scored.only(Role.FORGET).answer_logps
    assert scored.only(Role.RETAIN).answer_logps.isfinite().all()


def test_what_cannot_be_shared_is_not_and_said(make: Make) -> None:
    run = make("rmu", {})
    counting = replace(run.objective.needs, look=replace(run.objective.needs.look, places="all"))  # type: ignore[type-var]
    ways = choose(SpeedConfig(), run.model, run.codec, counting)
    assert not any((ways.share, ways.pack, ways.stop))
    assert any("padding" in line for line in ways.lines())
    off = choose(SpeedConfig(shared_prefix=False), run.model, run.codec, run.objective.needs)
    assert not off.share
    assert not any("shared_prefix" in line for line in off.lines())
