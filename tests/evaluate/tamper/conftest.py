"""One small run on the world that forgets, for all tests of tampering."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vlmend.config import Recipe, load_recipe
from vlmend.recipes import FOLDER
from vlmend.train import run as running

RECIPE = FOLDER / "world" / "unlearn_npo.yaml"
SUITE = "forgetting:world:unlearning#test?n=6&parts=forget,retain"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen steps of NPO: the probability of what is to be forgotten falls a long way."""
    folder = tmp_path_factory.mktemp("npo") / "run"
    sets = [
        "train.max_steps=12",
        "train.learning_rate=4.0e-3",
        "train.per_device_train_batch_size=8",
        f"output.dir={folder}",
    ]
    sets.append("data.mix.0.source=world:unlearning#train?openers=biased&n=60")
    tune(load_recipe(RECIPE, sets))
    return folder


def tune(recipe: Recipe) -> None:
    running.tune(recipe, console=Console(quiet=True))
