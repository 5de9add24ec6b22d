"""`vlmend tune` as a command, and the recipes that are shipped for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tests.train.conftest import plain_recipe
from vlmend.cli.tune import tune
from vlmend.config import load_recipe
from vlmend.errors import ConfigError
from vlmend.recipes import FOLDER

RECIPES = FOLDER / "world"


@pytest.fixture
def recipe(base: Path, data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain_recipe(base, data, tmp_path / "out")))
    return path


def call(*words: str) -> tuple[dict[str, Any], str]:
    """The JSON object on stdout, and what was said on stderr."""
    app = typer.Typer()
    app.command()(tune)
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout), result.stderr


def test_json_tells_what_came_of_it(recipe: Path, tmp_path: Path) -> None:
    said, shown = call(str(recipe), "--set", "train.max_steps=2", "--seed", "7")
    assert said["output"] == str(tmp_path / "out")
    assert (said["steps"], said["resumed_from"], said["finished_before"]) == (2, 0, False)
    assert said["moved"] > 0
    assert said["mask_report"]["supervised"] > 0
    assert said["trainable"]["vision_tower"]["trained"] == 0
    assert "step 2/2" in shown
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["train"]["seed"] == 7
    again, _ = call(str(recipe), "--set", "train.max_steps=2", "--seed", "7")
    assert again == {**said, "finished_before": True}


def test_a_dry_run_shows_recipe_modules_and_mask(recipe: Path, tmp_path: Path) -> None:
    said, shown = call(str(recipe), "--dry-run", "--out", str(tmp_path / "elsewhere"))
    assert said["dry_run"]
    assert said["recipe"]["output"]["dir"] == said["output"] == str(tmp_path / "elsewhere")
    for text in ("learning_rate: 0.01", "what trains", "mask of the first", "first supervised span"):
        assert text in shown
    assert not (tmp_path / "elsewhere").exists()


def test_the_feature_cache_is_switched_off_by_a_word(recipe: Path) -> None:
    for words, kept in (((), True), (("--no-feature-cache",), False)):
        said, shown = call(str(recipe), "--dry-run", "--set", "train.max_steps=20", *words)
        assert said["recipe"]["speed"]["features"] is kept
        assert ("features: of 10 pictures" in shown) is kept


def test_an_unknown_key_is_refused_with_the_nearest(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        call(str(recipe), "--set", "train.learning_rat=1")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.model.name in ("world", "runs/world/thinker")
    assert recipe.output.dir == Path("runs/world") / path.stem
