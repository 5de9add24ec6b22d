"""A reward that a policy can reach is reached, and one that can be gamed is seen to be: on the embedded world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import log_of, tune
from vlmend.config import Recipe, parse_recipe

LIMIT = 12  # tokens


def world(tmp_path: Path, seed: int, method: dict[str, Any], source: str, **train: Any) -> Recipe:
    return parse_recipe(
        {
            "model": {"name": "world", "device": "cpu", "lora": {"r": 8, "lora_alpha": 16}},
            "method": {"samples": 8, "temperature": 1.5, "max_new_tokens": LIMIT, **method},
            "data": {"mix": [{"source": source, "where": {"category": ["where", "count", "color"]}}]},
            "train": {
                "learning_rate": 0.01, "per_device_train_batch_size": 4, "logging_steps": 1, "seed": seed,
                "lr_scheduler_type": "constant_with_warmup", **train,
            },
            "output": {"dir": str(tmp_path / "out")},
        }
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_what_pays_is_learned(tmp_path: Path, method: str, seed: int) -> None:
    """Here it is going on to the limit, which is worth 1; at first answers end by themselves after half of that."""
    rewards = [{"reward": "length?per_token=1", "weight": 1 / LIMIT}]
    settings: dict[str, Any] = {"name": method, "rewards": rewards}
    if method == "ppo":
        settings |= {"kl": 0.0, "epochs": 1, "minibatches": 2}
    recipe = world(tmp_path, seed, settings, f"world:utility#train?n=60&seed={seed}", learning_rate=5e-3, max_steps=26)
    tune(recipe)
    found = [entry["rollouts"]["reward"] for entry in log_of(recipe.output.dir)]
    assert found[0] < 0.75
    assert sum(found[-2:]) / 2 >= 0.95


def test_an_answer_that_is_paid_for_being_short_gets_short_and_wrong_and_the_run_says_so(tmp_path: Path) -> None:
    rewards = [{"reward": "rule"}, {"reward": "length?per_token=-0.5", "name": "short"}]
    settings = {"name": "grpo", "rewards": rewards}
    recipe = world(tmp_path, 0, settings, "world:utility#train?n=60", max_steps=24)
    outcome, shown = tune(recipe)
    rows = [entry["rollouts"] for entry in log_of(recipe.output.dir)]
    assert rows[-1]["reward"] > rows[0]["reward"]
    assert rows[-1]["reward/rule"] < rows[0]["reward/rule"]
    assert rows[-1]["length"] < rows[0]["length"] / 1.5
    told = " ".join(outcome.warnings)
    assert "while its part rule fell" in told
    assert "answers went from" in told
    assert "warning: the reward rose" in shown
    assert "while its part rule fell" in (recipe.output.dir / "README.md").read_text()
    assert json.loads((recipe.output.dir / "manifest.json").read_text())["warnings"] == list(outcome.warnings)
