"""Recipes: what is wrong is named, with what is nearest; what is right survives a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmend.config import Recipe, load_recipe, parse_recipe
from vlmend.errors import ConfigError


def minimal() -> dict[str, Any]:
    return {"model": {"name": "world"}, "data": {"mix": [{"source": "world:safety"}]}, "output": {"dir": "out"}}


def test_resolved_recipe_is_a_recipe_and_a_fixed_point(tmp_path: Path) -> None:
    recipe = parse_recipe({**minimal(), "method": {"name": "npo", "beta": 0.2}})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.resolved()))
    again = load_recipe(path)
    assert again == recipe
    assert again.method.settings == {"beta": 0.2}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trian": {}}, "unknown key 'trian'. Did you mean 'train'?"),
        ({"train": {"learning_rat": 1}}, "unknown key 'train.learning_rat'. Did you mean 'learning_rate'?"),
        ({"model": {"name": "world", "lora": {"rank": 8}}}, "unknown key 'model.lora.rank'. Known: r, lora_alpha"),
        ({"data": {"mix": [{"source": "a", "weigth": 1}]}}, "unknown key 'data.mix.0.weigth'. Did you mean 'weight'?"),
        ({"model": {}}, "'model.name' is required"),
        ({"train": {"learning_rate": -1}}, "'train.learning_rate': input should be greater than 0 (got -1)"),
        ({"data": {"mix": []}}, "'data.mix'"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe({**minimal(), **change})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def load(tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    return load_recipe(path, list(overrides))


def test_overrides_reach_sections_lists_and_sections_not_written(tmp_path: Path) -> None:
    recipe = load(
        tmp_path, "train.learning_rate=1e-3", "data.mix.0.n=7", "model.lora.r=4", "train.bf16=true",
        "model.train=[projector]", "data.missing_images=placeholder",
    )  # fmt: skip
    assert recipe.train.learning_rate == 1e-3
    assert recipe.data.mix[0].n == 7
    assert recipe.model.lora.r == 4
    assert recipe.train.bf16
    assert recipe.model.train == ("projector",)
    assert recipe.data.missing_images == "placeholder"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.learning_rate", "is not of the form a.b=value"),
        ("data.mix.3.n=1", "'3' is not an index into a list of 1"),
        ("model.name.x=1", "'name' holds a value"),
        ("train.epochs=3", "unknown key 'train.epochs'. Did you mean 'num_train_epochs'?"),
        ("train.seed=[", "not valid YAML"),
    ],
)
def test_bad_overrides_are_one_line(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, override)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"), [("- a\n- b\n", "must be a mapping"), ("a: [", "is not valid YAML"), ("", "must be")]
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "absent.yaml")
