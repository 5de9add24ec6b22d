"""A reward that a policy can reach is reached, and one that can be gamed is seen to be: on the embedded world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import log_of, tune
from vlmend.config import Recipe, parse_recipe


def world(tmp_path: Path, seed: int, method: dict[str, Any], source: str, **train: Any) -> Recipe:
    return parse_recipe(
        {
            "model": {"name": "world", "device": "cpu", "lora": {"r": 8, "lora_alpha": 16}},
            "method": {"samples": 8, "temperature": 2.0, "max_new_tokens": 2, **method},
            "data": {"mix": [{"source": source, "where": {"category": ["where", "count", "color"]}}]},
            "train": {
                "learning_rate": 0.01, "per_device_train_batch_size": 8, "logging_steps": 1, "seed": seed,
                "lr_scheduler_type": "constant_with_warmup", **train,
            },
            "output": {"dir": str(tmp_path / "out")},
        }
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_a_word_to_begin_with_is_learned(tmp_path: Path, method: str, seed: int) -> None:
    """At a temperature where it is one word in two or so; the best reward is 1."""
    settings: dict[str, Any] = {"name": method, "rewards": ["begins:The"]}
    if method == "ppo":
        settings |= {"kl": 0.0, "epochs": 2}
    recipe = world(tmp_path, seed, settings, f"world:utility#train?n=60&seed={seed}", max_steps=16)
    tune(recipe)
    rewards = [entry["rollouts"]["reward"] for entry in log_of(recipe.output.dir)]
    print(method, seed, rewards)
    assert rewards[0] < 0.85
    assert sum(rewards[-4:]) / 4 >= 0.95


def test_an_answer_that_is_paid_for_being_short_gets_short_and_wrong_and_the_run_says_so(tmp_path: Path) -> None:
    rewards = [{"reward": "rule"}, {"reward": "length?per_token=-0.5", "name": "short"}]
    settings = {"name": "grpo", "rewards": rewards, "temperature": 1.5, "max_new_tokens": 12}
    recipe = world(tmp_path, 0, settings, "world:utility#train?n=60", max_steps=20)
    outcome, shown = tune(recipe)
    rows = [entry["rollouts"] for entry in log_of(recipe.output.dir)]
    print([(r["reward"], r["reward/rule"], r["length"]) for r in rows])
    assert rows[-1]["reward"] > rows[0]["reward"]
    assert rows[-1]["reward/rule"] < rows[0]["reward/rule"]
    assert rows[-1]["length"] < rows[0]["length"] / 1.5
    told = " ".join(outcome.warnings)
    assert "while its part rule fell" in told
    assert "answers went from" in told
    assert "warning: the reward rose" in shown
    assert "while its part rule fell" in (recipe.output.dir / "README.md").read_text()
    assert json.loads((recipe.output.dir / "manifest.json").read_text())["warnings"] == list(outcome.warnings)
    assert torch.is_grad_enabled()
