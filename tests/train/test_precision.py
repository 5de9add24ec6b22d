"""No update is lost to 16 bits: what is trained is held in fp32, whatever the recipe says, and saved as it is held."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from tests.models import tiny
from tests.train.conftest import MakeRecipe, ready, tune
from vlmend.config import ModelConfig
from vlmend.models import load as models
from vlmend.objectives.sft import Sft
from vlmend.ops.scored import Loss, Scored
from vlmend.saving import write_model
from vlmend.train.checkpoint import Progress
from vlmend.train.loop import accumulate, encode, take_step
from vlmend.train.precision import SCALE

SMALL = {"learning_rate": 1e-6, "max_steps": 20, "warmup_ratio": 0.0, "logging_steps": 20}
FULL = {"tune": "full", "train": ["language_model", "projector"]}
NAMED = {"tune": "full", "parameters": "*.mlp.down_proj.weight"}
BESIDE = {"train": ["language_model", "projector"]}
HALVES = ("bfloat16", "float16")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it is released: saved in bfloat16."""
    folder = tmp_path_factory.mktemp("released")
    model, processor = tiny.FAMILIES["llava"]()
    write_model(model.to(torch.bfloat16), folder)
    processor.save_pretrained(folder)
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def update(folder: Path, base: Path) -> torch.Tensor:
    """What tuning added to the weights of the language model and the projector."""
    before = load_file(base / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    names = sorted(name for name in before if "vision" not in name)
    return torch.cat([(after[name].double() - before[name].double()).flatten() for name in names])


@pytest.mark.parametrize("model", [FULL, NAMED, BESIDE], ids=["full", "named weights", "beside an adapter"])
@pytest.mark.parametrize("dtype", HALVES)
def test_small_steps_move_every_weight_that_has_a_gradient(
    make_recipe: MakeRecipe, dtype: str, model: dict[str, Any]
) -> None:
    """Held in 16 bits, twenty steps of 1e-6 change less than a weight in a hundred."""
    recipe = make_recipe(model={**model, "dtype": dtype}, train=SMALL)
    run = ready(recipe)
    assert {p.dtype for p in run.trained.values()} == {torch.float32}
    outcome, shown = tune(recipe)
    about = manifest(recipe.output.dir)
    assert outcome.moved_share == about["moved_share"]
    assert outcome.moved_share is not None
    assert outcome.moved_share > 0.99 * (1 - about["idle_share"])
    assert about["precision"]["passes"] == dtype
    assert "of the trained weights moved" in shown


def test_the_update_is_that_of_fp32(make_recipe: MakeRecipe, base: Path) -> None:
    """Computed in bfloat16, a few of Adam's steps turn around; in bfloat16 altogether almost nothing is left of it."""
    updates: list[torch.Tensor] = []
    for dtype in ("float32", "bfloat16"):
        recipe = make_recipe(dtype, model={**FULL, "dtype": dtype}, train=SMALL)
        tune(recipe)
        updates.append(update(recipe.output.dir, base))
    plain, half = updates
    assert torch.cosine_similarity(plain, half, dim=0) > 0.9
    assert half.norm() == pytest.approx(plain.norm().item(), rel=0.05)
    rounded = load_file(base / "model.safetensors")
    where = sorted(name for name in rounded if "vision" not in name)
    weights = torch.cat([rounded[name].double().flatten() for name in where])
    saved_short = (weights + plain).bfloat16().double() - weights
    assert (saved_short != 0).double().mean() < 0.15, "which is why results are saved in fp32"


@pytest.mark.parametrize("model", [FULL, NAMED], ids=["full", "named weights"])
def test_what_is_saved_is_what_was_learned_for_whoever_loads_it(
    make_recipe: MakeRecipe, base: Path, model: dict[str, Any]
) -> None:
    recipe = make_recipe(model={**model, "dtype": "bfloat16"}, train=SMALL)
    outcome, shown = tune(recipe)
    folder, about = recipe.output.dir, manifest(recipe.output.dir)
    saved = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    assert {config["dtype"], config["text_config"]["dtype"], config["vision_config"]["dtype"]} == {"float32"}
    before = load_file(base / "model.safetensors")
    changed = sum(int((saved[name].float() != before[name].float()).sum()) for name in saved)
    trained = sum(part["trained"] for part in about["trainable"].values())
    assert changed == round(about["moved_share"] * trained)
    assert all(torch.equal(saved[n].float(), before[n].float()) for n in saved if "vision" in n), "frozen ones, exactly"
    plain = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    ours = models.load(ModelConfig(name=str(folder), device="cpu")).model.state_dict()
    kept = {name: tensor for name, tensor in plain.items() if name in ours}
    assert all(torch.equal(ours[name].float(), kept[name].float()) for name in kept)
    assert outcome.kept_share is not None
    assert 0 < outcome.kept_share < 0.15
    assert "loaded or served in bfloat16, most of the update is lost" in shown
    assert outcome.warnings
    assert outcome.warnings[0] in (folder / "README.md").read_text()


def test_saved_in_16_bits_on_request_and_said_what_that_costs(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(model={**FULL, "dtype": "bfloat16"}, train=SMALL, output={"dtype": "bfloat16"})
    outcome, shown = tune(recipe)
    saved = load_file(recipe.output.dir / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert json.loads((recipe.output.dir / "config.json").read_text())["dtype"] == "bfloat16"
    assert "output.dtype=float32 keeps the whole update" in shown
    assert manifest(recipe.output.dir)["precision"]["saved"] == "bfloat16"
    assert outcome.kept_share is not None


def test_frozen_weights_are_held_as_the_recipe_says_where_only_matrices_are_trained(make_recipe: MakeRecipe) -> None:
    """RMU's three matrices in fp32 beside seven billion weights in 16 bits, not in 32."""
    run = ready(make_recipe(model={**NAMED, "dtype": "bfloat16"}))
    held = {name: p.dtype for name, p in run.model.named_parameters()}
    assert {dtype for name, dtype in held.items() if name not in run.trained} == {torch.bfloat16}
    assert run.ways.autocast == torch.bfloat16


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_weights_in_fp32_are_computed_in_fp32(make_recipe: MakeRecipe, dtype: str) -> None:
    run = ready(make_recipe(model={**FULL, "dtype": dtype}))
    assert run.ways.autocast is None
    assert run.progress.scale == 1


def test_an_adapter_goes_on_from_all_that_it_learned(make_recipe: MakeRecipe) -> None:
    """Its projector is saved in fp32, and the base is read in bfloat16: a second round starts from the very numbers."""
    first = make_recipe("first", model={**BESIDE, "dtype": "bfloat16"}, train=SMALL)
    tune(first)
    run = ready(make_recipe("second", model={**BESIDE, "dtype": "bfloat16", "adapter": str(first.output.dir)}))
    saved = load_file(first.output.dir / "adapter_model.safetensors")
    projector = {name: p for name, p in run.trained.items() if "projector" in name}
    assert projector
    for name, parameter in projector.items():
        there = saved[name.replace(".modules_to_save.default", "")]
        assert not torch.equal(there.bfloat16().float(), there)
        assert torch.equal(parameter, there)


def test_full_tuning_goes_on_from_an_adapter_in_the_whole_model(make_recipe: MakeRecipe, base: Path) -> None:
    """Merged first, for an adapter beside tuned weights would be all that is saved."""
    first = make_recipe("first", train={"max_steps": 3, "learning_rate": 0.05})
    tune(first)
    second = make_recipe("second", model={**FULL, "adapter": str(first.output.dir)}, train={**SMALL, "max_steps": 1})
    tune(second)
    after = AutoModelForImageTextToText.from_pretrained(second.output.dir, dtype=torch.float32).state_dict()
    merged = models.load(ModelConfig(name=str(base), adapter=str(first.output.dir), device="cpu")).model.state_dict()
    fresh = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32).state_dict()
    weight = next(name for name in after if name.endswith("q_proj.weight") and "language" in name)
    assert (after[weight] - merged[weight]).abs().max() < 3e-6
    assert (after[weight] - fresh[weight]).abs().max() > 1e-3


class Faint(Sft):
    """A loss a million times smaller."""

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        loss = super().__call__(policy, reference)
        return Loss(1e-6 * loss.total, loss.parts)


def test_gradients_too_small_for_fp16_are_not_lost(make_recipe: MakeRecipe) -> None:
    """Its smallest number is 6e-8: as they are, most of these would be 0."""

    def gradient(dtype: str, scale: float | None = None) -> torch.Tensor:
        run = replace(ready(make_recipe(model={**FULL, "dtype": dtype})), objective=Faint())
        run.progress.scale = scale or run.progress.scale
        accumulate(run, encode(run, 0))
        grads = [p.grad / run.progress.scale for p in run.trained.values() if p.grad is not None]
        return torch.cat([g.flatten().double() for g in grads])

    true = gradient("float32")
    assert (gradient("float16") - true).norm() < 0.02 * true.norm()
    assert (gradient("float16", 1.0) - true).norm() > 0.2 * true.norm()


def test_a_step_too_large_for_fp16_is_taken_again_with_less(make_recipe: MakeRecipe) -> None:
    run, plain = (ready(make_recipe(model={**FULL, "dtype": "float16"})) for _ in range(2))
    assert run.progress.scale == SCALE
    run.progress.scale = 2.0**40
    take_step(run, encode(run, 0))
    assert 1 < run.progress.scale < 2.0**40
    take_step(plain, encode(plain, 0))
    one, two = (torch.cat([p.detach().flatten() for p in each.trained.values()]) for each in (run, plain))
    assert torch.allclose(one, two, atol=2e-3), "the same step, not one that was skipped"
    assert Progress(**vars(run.progress)) == run.progress, "kept with a checkpoint"
