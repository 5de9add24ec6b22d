"""Reasoning in a run: learned, shown, left out or the model's own, and said before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.models import tiny
from tests.models.templates import PARTS, plain
from tests.train.conftest import MakeRecipe, tune
from vlmend.config import ModelConfig
from vlmend.data.mix import Mix
from vlmend.errors import ConfigError
from vlmend.models.generate import Engine
from vlmend.models.load import load
from vlmend.store import read_json
from vlmend.train import thinking
from vlmend.types import Example, Message

THOUGHT = "It glows, so it must be hot, and one had better not touch it."


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Any]:
    """A section data: six rows with reasoning and two without."""
    file = tmp_path / "thoughts.jsonl"
    told = [{"id": f"r{i}", "prompt": f"Is it hot, {i}?", "answer": "Yes.", "reasoning": THOUGHT} for i in range(6)]
    told += [{"id": f"b{i}", "prompt": f"Is it cold, {i}?", "answer": "No."} for i in range(2)]
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    return {"mix": [{"source": f"jsonl:{file}"}]}


def supervised(make_recipe: MakeRecipe, rows: dict[str, Any], how: str) -> tuple[int, int, str]:
    outcome, shown = tune(
        make_recipe(how, data=rows, train={"thinking": how, "per_device_train_batch_size": 8}), dry_run=True
    )
    return outcome.mask_report["supervised"], outcome.mask_report["prompt"], " ".join(shown.split())


def test_what_is_learned_shown_and_left_out(make_recipe: MakeRecipe, rows: dict[str, Any]) -> None:
    learned, prompt, said = supervised(make_recipe, rows, "supervise")
    masked, shown, told = supervised(make_recipe, rows, "mask")
    bare, least, left = supervised(make_recipe, rows, "none")
    assert bare == masked < learned
    assert least == prompt < shown
    assert learned + prompt == masked + shown
    assert "reasoning: it is" not in said
    assert "6 rows with reasoning: it is shown and not learned (train.thinking: mask)" in told
    assert "6 rows with reasoning: it is left out (train.thinking: none)" in left


def test_a_model_that_does_not_think_is_not_warned_of(make_recipe: MakeRecipe, rows: dict[str, Any]) -> None:
    for how in ("supervise", "none"):
        assert "this model thinks" not in supervised(make_recipe, rows, how)[2]


def test_a_template_that_opens_thoughts_is_warned_of_where_rows_have_none(
    make_recipe: MakeRecipe, rows: dict[str, Any], tmp_path: Path
) -> None:
    opening = plain(PARTS).replace("assistant\\n' }}{% endif %}", "assistant\\n<think>' }}{% endif %}")
    opening = opening.replace(
        PARTS, "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>' }}{% endif %}" + PARTS
    )
    loaded, processor = tiny.llava(template=opening)
    loaded.save_pretrained(tmp_path / "thinks")
    processor.save_pretrained(tmp_path / "thinks")
    model = {"name": str(tmp_path / "thinks")}
    recipe = make_recipe("out", data=rows, model=model, train={"thinking": "none"})
    said = " ".join(tune(recipe, dry_run=True)[1].split())
    assert "this model thinks before it answers (its chat template is of a model that thinks)" in said
    assert "8 of 8 rows have no reasoning: tuned on answers alone" in said


def test_a_model_that_begins_its_answers_with_thoughts_is_found_out(
    make_recipe: MakeRecipe, rows: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmend.models.codec import Codec

    monkeypatch.setattr(Codec, "decode", lambda *_: "<think>Hm")
    said = supervised(make_recipe, rows, "supervise")[2]
    assert "(so it began 2 of 2 answers), and 2 of 8 rows have no reasoning" in said


def test_its_own_answers_are_learned_in_place_of_the_datas(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLMEND_CACHE", str(tmp_path / "cache"))
    data = {"mix": [{"source": "world:utility?n=6"}, {"source": "world:unsafe?n=2&think=safety"}]}
    train = {"thinking": "keep_own", "own": {"max_new_tokens": 40}, "max_steps": 1}
    recipe = make_recipe("out", data=data, train=train, model={"name": "world"})
    said = " ".join(tune(recipe)[1].split())
    counts = read_json(recipe.output.dir / "manifest.json")["data"]["own"]
    assert counts["with the model's own answer"] >= 4
    assert sum(n for what, n in counts.items() if "of these" not in what) == 6
    assert "own reasoning: " in said
    assert "this model thinks" not in said
    assert tune(recipe)[0].finished_before


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_methods_that_learn_from_something_else_say_so(make_recipe: MakeRecipe, method: str) -> None:
    settings = {"name": method} | ({"rewards": ["begins:x"]} if method == "grpo" else {})
    with pytest.raises(ConfigError, match="keep_own is for methods that learn given answers"):
        tune(make_recipe("out", method=settings, train={"thinking": "keep_own"}))


def test_looking_whether_a_model_thinks_leaves_it_as_it_was(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers are limited to while it is looked at is no part of what is saved."""
    monkeypatch.setattr(Engine, "whole_only", "of a test")
    loaded = load(ModelConfig(name=str(base), device="cpu"), for_training=True)
    asked = Example("x", (Message("user", ("Is it hot?",)),), ("Yes.",))
    before = loaded.model.generation_config
    assert thinking.warned(Mix((asked,), (1.0,), {}), loaded) == []
    assert loaded.model.generation_config is before
    assert loaded.model.training
