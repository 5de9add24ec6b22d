"""A tiny model, a tiny data set with answers of very different lengths, and recipes for them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from rich.console import Console

from tests.models import tiny
from tests.train.rolling import LETTERS, letters
from vlmend.config import Recipe, parse_recipe
from vlmend.rewards.begins import Begins
from vlmend.train import run as running
from vlmend.train.loop import Tuning
from vlmend.train.parallel import Team

ANSWERS = ("No.", "Two rings, one of them red.", "A square.", "I cannot help with that, and I will not try to.")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The same sums in the same order, and no fight over the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven rows: most with a picture, one without, roles mixed."""
    folder = tmp_path_factory.mktemp("data")
    rows: list[dict[str, Any]] = []
    for i in range(11):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(folder / f"{i}.png")
        row = {"id": f"row{i}", "prompt": f"{'What? ' * (i % 3)}{i}", "answer": ANSWERS[i % 4] * (1 + i % 2)}
        rows.append({**row, "images": [f"{i}.png"] if i != 5 else [], "role": "safety" if i % 3 else "utility"})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def make_recipe(base: Path, data: Path, tmp_path: Path) -> MakeRecipe:
    """A recipe on the tiny model: `make_recipe("out", train={...}, model={...})`."""

    def make(out: str = "out", **sections: dict[str, Any]) -> Recipe:
        plain = plain_recipe(base, data, tmp_path / out)
        return parse_recipe({name: {**plain[name], **sections.get(name, {})} for name in plain})

    return make


@pytest.fixture
def make(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> MakeRecipe:
    """`make("grpo", samples=4, train={...})`: short answers of a random model, the more letters the better."""
    monkeypatch.setattr(Begins, "__call__", letters)

    def recipe(name: str, out: str = "out", train: dict[str, Any] | None = None, **settings: Any) -> Recipe:
        sections = {key: settings.pop(key) for key in ("model", "speed", "data") if key in settings}
        own = {"name": name, "rewards": [LETTERS], "samples": 4, "max_new_tokens": 6, **settings}
        return make_recipe(out, method=own, train={"max_steps": 3, **(train or {})}, **sections)

    return recipe


def plain_recipe(base: Path, data: Path, out: Path) -> dict[str, dict[str, Any]]:
    lora = {"r": 4, "lora_alpha": 8}
    train = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "max_steps": 4, "logging_steps": 1}
    return {
        "model": {"name": str(base), "device": "cpu", "lora": lora},
        "method": {"name": "sft"},
        "data": {"mix": [{"source": f"jsonl:{data}"}]},
        "train": train,
        "speed": {},
        "output": {"dir": str(out)},
    }


def tune(recipe: Recipe, **settings: bool) -> tuple[running.Outcome, str]:
    """Tune; what came of it and what was shown."""
    shown = io.StringIO()
    outcome = running.tune(recipe, console=Console(file=shown, width=160), **settings)
    return outcome, shown.getvalue()


def ready(recipe: Recipe) -> Tuning:
    """A run that is about to take its first step."""
    team = Team.gather(device="cpu")
    run = running._tuning(running._prepare(recipe, team))
    run.model.train()
    return run


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
