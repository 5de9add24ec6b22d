"""The model before tuning, by every way there is to it, against a copy of the model that was made before.

Everything is computed a second time from plain logits of one example at a time. What is tuned is moved first, so that
whatever is taken from the tuned model in place of the one before (a head, a norm, an embedding) shows.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image as Pillow
from rich.console import Console
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from tests.models import tiny
from tests.train.conftest import ready
from vlmend.config import Recipe, parse_recipe
from vlmend.models import load as loading
from vlmend.train import before
from vlmend.train.layers import capture
from vlmend.train.loop import Tuning, accumulate, encode
from vlmend.train.reference import Cached, Live
from vlmend.types import Example, Role

WAYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora with the projector in full": {"train": ["language_model", "projector"]},
    "full": {"tune": "full", "train": ["language_model", "projector"]},
    "the head alone": {"tune": "full", "parameters": "*lm_head*"},
    "named weights": {"tune": "full", "parameters": "*.mlp.down_proj.weight"},
    "an adapter that goes on": {"adapter": "first"},
}
HEADS = ("untied", "tied", "with a bias")
# the adapter that goes on was made for a head without a bias
WAYS_AND_HEADS = [(way, head) for way in WAYS for head in HEADS if (way, head) != (list(WAYS)[-1], HEADS[-1])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def first(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that holds a copy of the head, as peft's `modules_to_save` does, both no longer as they began."""
    place = tmp_path_factory.mktemp("first")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    settings = LoraConfig(r=2, target_modules=r".*language_model.*q_proj", modules_to_save=["lm_head"])
    adapter = get_peft_model(model, settings)
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in adapter.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=chance))
    adapter.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rows")
    found: list[dict[str, Any]] = []
    for i in range(6):
        Pillow.fromarray(np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(
            place / f"{i}.png"
        )
        one = {
            "id": str(i),
            "prompt": f"{'What? ' * (i % 3)}{i}",
            "answer": ("It bursts.", "No.")[i % 2] * (1 + i // 3),
        }
        found.append({**one, "images": [f"{i}.png"] if i != 4 else [], "role": "retain" if i % 2 else "forget"})
    path = place / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


Make = Callable[..., tuple[Tuning, Any, Recipe]]


@pytest.fixture
def make(folder: Path, first: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A run with its reference, moved away from where it began, and a copy of its model from before."""
    honest = loading._base

    def begun(
        way: str, head: str, method: dict[str, Any], reference: str = "auto", speed: dict[str, Any] | None = None
    ) -> tuple[Tuning, Any, Recipe]:
        def base(*arguments: Any) -> tuple[Any, Any]:
            model, processor = honest(*arguments)
            torch.manual_seed(1)
            if head == "with a bias":
                biased = nn.Linear(*reversed(model.lm_head.weight.shape))
                model.lm_head = biased
                nn.init.normal_(biased.bias)
            elif head == "tied":
                model.lm_head.weight = model.get_input_embeddings().weight
            return model, processor

        monkeypatch.setattr(loading, "_base", base)
        settings = {**WAYS[way]}
        if "adapter" in settings:
            settings["adapter"] = str(first)
        if head == "tied" and way == "the head alone":
            settings["parameters"] = "*embed_tokens*"  # what it is called then
        recipe = parse_recipe(
            {
                "model": {"name": str(folder), "device": "cpu", "lora": {"r": 4, "lora_alpha": 8}, **settings},
                "method": method,
                "data": {"mix": [{"source": f"jsonl:{rows}"}]},
                "train": {"per_device_train_batch_size": 3, "max_steps": 2, "reference": reference},
                "speed": speed or {},
                "output": {"dir": str(tmp_path / "out")},
            }
        )
        recipe.output.dir.mkdir()
        run = ready(recipe)
        old = copy.deepcopy(run.model).eval()
        run.reference = before.reference(run, recipe, "base", Console(quiet=True))
        chance = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in run.trained.values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
        return run, old, recipe

    return begun


def plain(model: Any, run: Tuning, example: Example) -> tuple[Tensor, Tensor]:
    """(N, V) log-probabilities where answer tokens are foretold, and these (N,), of one example alone."""
    batch = run.codec.encode_training([example])
    logits = model(**batch.inputs, use_cache=False).logits[0, :-1].log_softmax(-1)
    labels = batch.labels[0, 1:]
    return logits[labels != -100], labels[labels != -100]


def answers(model: Any, run: Tuning, examples: Sequence[Example]) -> Tensor:
    """(E,) log-probability of each whole answer."""
    made = (plain(model, run, example) for example in examples)
    return torch.stack([told.gather(1, right[:, None]).sum() for told, right in made])


def of_role(run: Tuning, role: Role) -> list[Example]:
    return [example for example in encode(run, 0)[0].batch.examples if example.role is role]


def slopes(run: Tuning, loss: Tensor | None = None) -> Tensor:
    """The gradient of a loss, or of the run's own, in everything that is trained."""
    for p in run.trained.values():
        p.grad = None
    if loss is None:
        accumulate(run, encode(run, 0))
    else:
        loss.backward()
    every = [torch.zeros_like(p) if p.grad is None else p.grad for p in run.trained.values()]
    return torch.cat([g.flatten() for g in every])


def near(one: Tensor, two: Tensor) -> bool:
    return bool((one - two).norm() <= 1e-4 * two.norm())


def of(values: dict[str, float], part: str) -> float:
    return values[f"parts/{part}"]


SLOW: dict[str, Any] = {"answer_logits": False, "shared_prefix": False, "packing": False, "features": False}


@pytest.mark.parametrize("speed", [{}, SLOW], ids=["fast", "plain"])
@pytest.mark.parametrize(("way", "head"), WAYS_AND_HEADS)
def test_the_divergence_is_from_the_model_before(make: Make, way: str, head: str, speed: dict[str, Any]) -> None:
    run, old, _ = make(way, head, {"name": "kl", "alpha": 2.0, "gamma": 1e-9}, speed=speed)
    assert isinstance(run.reference, Live)
    values = accumulate(run, encode(run, 0))
    pieces: list[Tensor] = []
    for example in of_role(run, Role.RETAIN):
        now, _ = plain(run.model, run, example)
        with torch.no_grad():
            was, _ = plain(old, run, example)
        pieces.append((was.exp() * (was - now)).sum(-1))
    truth = 2.0 * torch.cat(pieces).mean()
    assert truth > 1e-3
    assert of(values, "retain") == pytest.approx(truth.item(), rel=1e-4)
    assert near(slopes(run), slopes(run, truth))


@pytest.mark.parametrize("reference", ["live", "cached"])
@pytest.mark.parametrize(("way", "head"), WAYS_AND_HEADS)
def test_log_ratios_are_to_the_model_before(make: Make, way: str, head: str, reference: str) -> None:
    run, old, _ = make(way, head, {"name": "npo", "beta": 0.5, "alpha": 0.0}, reference)
    assert isinstance(run.reference, Cached if reference == "cached" else Live)
    values = accumulate(run, encode(run, 0))
    forget = of_role(run, Role.FORGET)
    now = answers(run.model, run, forget)
    with torch.no_grad():
        was = answers(old, run, forget)
    truth = 4.0 * nn.functional.softplus(0.5 * (now - was)).mean()
    assert (now - was).abs().max() > 1e-2
    assert of(values, "forget") == pytest.approx(truth.item(), rel=1e-4)
    assert near(slopes(run), slopes(run, truth))


@pytest.mark.parametrize("way", ["lora", "lora with the projector in full", "full", "named weights"])
def test_hidden_states_are_held_to_those_of_the_model_before(make: Make, way: str) -> None:
    method = {"name": "rmu", "layer": 1, "gamma": 1e-9, "alpha": 0.0, "alpha_hidden": 1.0, "positions": "answer"}
    run, old, _ = make(way, "untied", method)
    values = accumulate(run, encode(run, 0))
    gaps: list[Tensor] = []
    for example in of_role(run, Role.RETAIN):
        batch = run.codec.encode_training([example])
        states: list[Tensor] = []
        for model in (run.model, old):
            with torch.no_grad(), capture(model, 1) as seen:
                model(**batch.inputs, use_cache=False)
            states.append(seen[0][0][batch.labels[0] != -100])
        gaps.append((states[0] - states[1]).pow(2).mean(-1))
    truth = torch.cat(gaps).mean().item()
    assert truth > 1e-5
    assert of(values, "retain_hidden") == pytest.approx(truth, rel=1e-4)
