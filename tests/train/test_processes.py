"""Two processes do what one does: the same weights for the same global batch, and a rate that ends at zero."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.train.conftest import MakeRecipe, log_of, tune
from tests.train.worker import start
from vlmend.config import Recipe


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def tune_by_two(recipe: Recipe, folder: Path) -> list[str]:
    """What each of two processes shows."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shown = [folder / f"shown{rank}.txt" for rank in range(2)]
    team = [start(recipe, file, **shared, RANK=str(i), LOCAL_RANK=str(i)) for i, file in enumerate(shown)]
    for process, file in zip(team, shown, strict=True):
        process.join(120)
        assert process.exitcode == 0, file.read_text()
    return [file.read_text() for file in shown]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_end_with_the_weights_of_one(make_recipe: MakeRecipe, tmp_path: Path, accumulation: int) -> None:
    # eleven examples. Two per step: the last step leaves a process without any, and the one example without a picture
    # leaves a process without a gradient of the projector. Eight per step: the last step has three, two and one.
    train = {"num_train_epochs": 2, "max_steps": -1, "save_steps": 2, "per_device_train_batch_size": accumulation}
    model = {"tune": "full", "train": ["language_model", "projector"]} if accumulation == 1 else {}
    one = make_recipe("one", model=model, train={**train, "gradient_accumulation_steps": 2 * accumulation})
    two = make_recipe("two", model=model, train={**train, "gradient_accumulation_steps": accumulation})
    alone, _ = tune(one)
    shown = tune_by_two(two, tmp_path)
    assert "what trains" in shown[0]
    assert shown[1] == ""
    manifest = json.loads((two.output.dir / "manifest.json").read_text())
    assert (manifest["processes"], manifest["steps"]) == (2, alone.steps)
    assert manifest["loss"] == pytest.approx(alone.loss, rel=1e-4)
    logs = [log_of(recipe.output.dir) for recipe in (one, two)]
    for key in ("step", "lr"):
        assert [entry[key] for entry in logs[0]] == [entry[key] for entry in logs[1]]
    assert [e["loss"] for e in logs[0]] == pytest.approx([e["loss"] for e in logs[1]], rel=1e-4)
    assert [e["grad_norm"] for e in logs[0]] == pytest.approx([e["grad_norm"] for e in logs[1]], rel=1e-3)
    files = [next(r.output.dir.glob("*model.safetensors")) for r in (one, two)]
    first, second = map(load_file, files)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-3 * max(
        float(w.abs().max()) for w in first.values()
    )
    ends = [json.loads((recipe.output.dir / "manifest.json").read_text())["lr_at_end"] for recipe in (one, two)]
    assert ends == [0.0, 0.0]
    assert all(log[-1]["lr"] > 0 for log in logs)
