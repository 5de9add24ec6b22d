"""Whole runs on a tiny model: what is trained, what is kept, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from tests.models import tiny
from tests.models.templates import AFTER_QUESTION, SYSTEMLESS
from tests.train.conftest import MakeRecipe, log_of, ready, tune
from vlmend.config import ModelConfig, Recipe
from vlmend.errors import ModelError, StoreError
from vlmend.models import load as models
from vlmend.models.parts import owner
from vlmend.models.wording import REASONING
from vlmend.train.identity import comparable
from vlmend.train.loop import Hooks, encode, optimize, take_step
from vlmend.types import Example, Message


def test_a_finished_folder_has_everything_and_is_left_alone(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    outcome, shown = tune(recipe)
    folder = recipe.output.dir
    assert outcome.steps == 4
    assert outcome.moved > 0
    assert outcome.loss is not None
    for name in ("README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json", "recipe.yaml"):
        assert (folder / name).stat().st_size, name
    assert "what trains" in shown
    assert "mask of the first" in shown
    assert "step 4/4" in shown
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["mask_report"]["supervised"] == manifest["mask_report"]["answer"] > 0
    assert [s["resumed_from"] for s in manifest["sessions"]] == [0]
    assert manifest["sessions"][0]["environment"]["versions"] == manifest["environment"]["versions"]
    assert manifest["trainable"]["language_model"]["trained"] > 0
    assert manifest["trainable"]["vision_tower"]["trained"] == 0
    assert sorted(row for part in manifest["data"]["parts"] for row in part["rows"])[0] == "row0"
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == recipe.resolved() == manifest["recipe"]
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    again, shown = tune(recipe)
    assert again.finished_before
    assert "nothing to do" in shown
    assert (again.loss, again.moved, again.steps) == (outcome.loss, outcome.moved, outcome.steps)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_module_that_is_tuned_beside_an_adapter_is_counted_once(make_recipe: MakeRecipe, base: Path) -> None:
    """peft keeps the original beside the copy that it trains."""
    outcome, _ = tune(make_recipe(model={"train": ["language_model", "projector"]}), dry_run=True)
    plain = AutoModelForImageTextToText.from_pretrained(base)
    projector = sum(p.numel() for name, p in plain.named_parameters() if "projector" in name)
    assert outcome.trainable["projector"] == {"trained": projector, "total": projector}


def test_a_folder_of_before_there_was_a_dtype_to_save_in_holds_the_same_run(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    assert "dtype" not in comparable(recipe)["output"]
    other = make_recipe(output={"dir": str(recipe.output.dir), "dtype": "bfloat16"})
    tune(recipe)
    with pytest.raises(StoreError, match=r"recipe\.output\.dtype is None there and 'bfloat16' here"):
        tune(other)


def test_the_card_opens_with_the_front_matter_of_hubs(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(train={"max_steps": 1})
    tune(recipe)
    _, front, text = (recipe.output.dir / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["base_model"] == recipe.model.name
    assert (about["library_name"], about["pipeline_tag"]) == ("peft", "image-text-to-text")
    assert about["datasets"] == ["jsonl"]
    assert "PeftModel.from_pretrained" in text


@pytest.mark.parametrize("kind", [{"tune": "lora"}, {"tune": "full"}], ids=["lora", "full"])
def test_the_card_loads_what_gives_the_answers_that_are_measured(
    make_recipe: MakeRecipe, kind: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(model=kind, train={"max_steps": 2})
    tune(recipe)
    snippet = (recipe.output.dir / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert 'dtype="float32"' in snippet
    monkeypatch.chdir(recipe.output.dir.parent)
    names: dict[str, Any] = {}
    exec(snippet, names)
    folder = str(recipe.output.dir)
    whole = ModelConfig(name=folder) if kind["tune"] == "full" else ModelConfig(name=recipe.model.name, adapter=folder)
    ours = models.load(whole)
    batch = ours.codec.encode_prompts([Example("x", (Message("user", ("Hi?",)),))])
    inputs = {name: value for name, value in batch.inputs.items() if name in ("input_ids", "attention_mask")}
    found = names["model"].eval().generate(**inputs, max_new_tokens=12, do_sample=False)
    wanted = ours.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert found.tolist() == wanted.tolist()


def test_another_run_is_refused_by_what_differs(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    tune(make_recipe())
    with pytest.raises(StoreError, match=r"learning_rate is 0\.01 there and 0\.02 here"):
        tune(make_recipe(train={"learning_rate": 0.02}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="holds no tuning run"):
        tune(make_recipe("mine"))


def test_a_dry_run_writes_nothing(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    outcome, shown = tune(recipe, dry_run=True)
    assert outcome.steps == 0
    assert outcome.mask_report["supervised"] > 0
    assert "11 examples, 4 steps of 2 examples" in shown
    assert not recipe.output.dir.exists()


THOUGHTS = [
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "<think>Who is it?</think>\nHello."},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": "<think>I think.</think>\nNo."},
]


def in_words_of(make_recipe: MakeRecipe, folder: Path, template: str, rows: list[dict[str, Any]]) -> Recipe:
    """A recipe for these rows and the tiny model with another chat template."""
    base = tiny.save("llava", folder / "model")
    (base / "chat_template.jinja").write_text(template)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"id": f"r{i}", **row}) + "\n" for i, row in enumerate(rows)))
    data = {"mix": [{"source": f"jsonl:{folder / 'rows.jsonl'}"}]}
    return make_recipe(model={"name": str(base)}, data=data, train={"max_steps": 1})


def test_what_a_template_leaves_out_with_reason_is_said_once_and_in_the_manifest(
    make_recipe: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"messages": turns} for turns in (*[THOUGHTS[2:]] * 3, *[THOUGHTS] * 2)]
    recipe = in_words_of(make_recipe, tmp_path, AFTER_QUESTION, rows)
    _, shown = tune(recipe)
    assert shown.count(REASONING) == 1
    assert f"{REASONING} (2 examples)" in shown
    assert REASONING not in caplog.text
    manifest = json.loads((recipe.output.dir / "manifest.json").read_text())
    assert manifest["mask_report"]["wording"] == {REASONING: 2}


def test_a_row_whose_words_the_template_drops_is_found_before_the_first_step(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    system = [{"role": "system", "content": "SECRET."}, *THOUGHTS[2:]]
    rows = [{"messages": turns} for turns in (*[THOUGHTS[2:]] * 40, system)]
    recipe = in_words_of(make_recipe, tmp_path, SYSTEMLESS, rows)
    with pytest.raises(ModelError, match=r"chat template of this llava model drops .* turn 1 of 3 of example 'r40'"):
        tune(recipe)
    assert not recipe.output.dir.exists()


def test_the_adapter_loads_in_plain_peft_with_the_same_logits(make_recipe: MakeRecipe, base: Path) -> None:
    recipe = make_recipe(model={"train": ["language_model", "projector"]})
    tune(recipe)
    run = ready(make_recipe("other"))
    batch = encode(run, 0)[0].batch
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), recipe.output.dir).eval()
    ours = models.load(recipe.model.model_copy(update={"adapter": str(recipe.output.dir)})).model
    untuned = AutoModelForImageTextToText.from_pretrained(base).eval()
    with torch.no_grad():
        logits = [model(**batch.inputs).logits for model in (plain, ours, untuned)]
    assert torch.allclose(logits[0], logits[1], atol=1e-5)
    assert not torch.allclose(logits[0], logits[2], atol=1e-2)


@pytest.mark.parametrize("part", ["projector", "language_model"])
def test_full_tuning_moves_what_is_named_and_not_a_bit_more(make_recipe: MakeRecipe, base: Path, part: str) -> None:
    recipe = make_recipe(model={"tune": "full", "train": [part]}, train={"weight_decay": 0.1})
    tune(recipe)
    before = AutoModelForImageTextToText.from_pretrained(base).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(recipe.output.dir).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    named = {"projector": "multi_modal_projector", "language_model": "language_model"}[part]
    assert moved
    assert all(named in name or (part == "language_model" and "lm_head" in name) for name in moved)
    weights = {n for n in before if named in n and "embed_tokens" not in n}
    assert weights <= moved


def test_lora_leaves_the_base_weights_bit_identical(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe())
    before = {name: p.clone() for name, p in run.model.named_parameters() if not p.requires_grad}
    assert optimize(run, Hooks(lambda *_: None, lambda _: None, lambda: None, lambda: False))
    after = dict(run.model.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_loss_falls_on_what_can_be_memorized(make_recipe: MakeRecipe) -> None:
    train = {"max_steps": 60, "per_device_train_batch_size": 4, "logging_steps": 5}
    few = {"mix": [{"source": make_recipe().data.mix[0].source, "n": 4}]}
    recipe = make_recipe(train=train, data=few, model={"tune": "full"})
    outcome, _ = tune(recipe)
    losses = [entry["loss"] for entry in log_of(recipe.output.dir)]
    assert len(losses) == 12
    assert outcome.loss == losses[-1] < 0.4 * losses[0]


def test_the_log_says_the_parts_of_the_loss_and_the_rate(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(train={"max_steps": 5, "logging_steps": 2})
    tune(recipe)
    entries = log_of(recipe.output.dir)
    assert [entry["step"] for entry in entries] == [2, 4, 5]
    for entry in entries:
        assert sum(entry["parts"].values()) == pytest.approx(entry["loss"])
        assert entry["tokens_per_second"] > 0
        assert entry["grad_norm"] > 0
    assert 0 < entries[-1]["lr"] < entries[0]["lr"] <= 0.01


def test_each_step_is_one_update_at_the_rate_of_transformers(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []
    honest = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: None = None) -> None:
        used.append(self.param_groups[0]["lr"])
        honest(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    recipe = make_recipe(train={"max_steps": 6, "warmup_ratio": 0.0, "lr_scheduler_type": "linear"})
    tune(recipe)
    assert used == pytest.approx([0.01 * (1 - done / 6) for done in range(6)])
    assert [entry["lr"] for entry in log_of(recipe.output.dir)] == pytest.approx(used)


def test_a_rate_that_moves_nothing_is_a_failure(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(train={"learning_rate": 1e-30, "max_steps": 1}, model={"tune": "full"})
    with pytest.raises(ModelError, match="changed no weight"):
        tune(recipe)
    assert not (recipe.output.dir / "manifest.json").exists()


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(make_recipe: MakeRecipe) -> None:
    from vlmend.errors import ModelError

    run = ready(make_recipe())
    name, first = next(iter(run.trained.items()))
    first.data.fill_(float("nan"))
    others = {n: p.clone() for n, p in run.trained.items() if n != name}
    with pytest.raises(ModelError, match="not finite at step 1"):
        take_step(run, encode(run, 0))
    assert all(torch.equal(run.trained[n], p) for n, p in others.items())


def test_settings_that_save_memory_leave_the_loss_alone(make_recipe: MakeRecipe) -> None:
    plain = make_recipe("plain")
    spared = make_recipe("spared", train={"gradient_checkpointing": True})
    assert ready(spared).model.is_gradient_checkpointing
    tune(plain)
    tune(spared)
    one, two = (load_file(r.output.dir / "adapter_model.safetensors") for r in (plain, spared))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_bf16_runs_and_stays_near(make_recipe: MakeRecipe) -> None:
    plain, half = make_recipe("plain"), make_recipe("half", train={"bf16": True})
    losses = [tune(r)[0].loss for r in (plain, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


def test_the_first_step_moves_each_part_by_its_own_rate(make_recipe: MakeRecipe) -> None:
    """Adam's first step moves a weight by the rate, whatever its gradient."""
    model = {"train": ["language_model", "projector"]}
    train = {"max_steps": 1, "warmup_ratio": 0, "learning_rate": 1e-2, "projector_learning_rate": 1e-4}
    run = ready(make_recipe(model=model, train=train))
    before = {name: weight.detach().clone() for name, weight in run.trained.items()}
    optimize(run, Hooks(step=lambda *_: None, log=lambda _: None, save=lambda: None, interrupted=lambda: False))
    moved = {name: float((weight.detach() - before[name]).abs().max()) for name, weight in run.trained.items()}
    parts = {
        part: [way for name, way in moved.items() if (owner(name) == "projector") == part] for part in (True, False)
    }
    assert max(parts[True]) == pytest.approx(1e-4, rel=1e-2)
    assert max(parts[False]) == pytest.approx(1e-2, rel=1e-2)
