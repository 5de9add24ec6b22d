"""Two processes do what one does: the same weights for the same global batch, and a rate that ends at zero."""

from __future__ import annotations

import json
import socket
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.train.conftest import MakeRecipe, log_of, tune
from tests.train.worker import start
from vlmend.config import Recipe


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start_two(recipe: Recipe, folder: Path) -> list[tuple[BaseProcess, Path]]:
    """Two processes at work, and where each shows what it does."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shown = [folder / f"shown{rank}.txt" for rank in range(2)]
    return [(start(recipe, file, **shared, RANK=str(i), LOCAL_RANK=str(i)), file) for i, file in enumerate(shown)]


def tune_by_two(recipe: Recipe, folder: Path, *, exitcode: int = 0) -> list[str]:
    """What each of two processes shows."""
    team = start_two(recipe, folder)
    for process, file in team:
        process.join(120)
        assert process.exitcode == exitcode, file.read_text()
    return [file.read_text() for _, file in team]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_end_with_the_weights_of_one(make_recipe: MakeRecipe, tmp_path: Path, accumulation: int) -> None:
    # eleven examples. Two per step: the last step leaves a process without any, and the one example without a picture
    # leaves a process without a gradient of the projector. Eight per step: the last step has three, two and one.
    train = {"num_train_epochs": 2, "max_steps": -1, "save_steps": 2, "per_device_train_batch_size": accumulation}
    model = {"tune": "full", "train": ["language_model", "projector"]} if accumulation == 1 else {}
    train |= {"projector_learning_rate": 0.003} if accumulation == 1 else {}
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


ONLINE = [
    ("grpo", {"kl": 0.1, "samples": 4}, 1),
    ("reinforce_pp", {"samples": 2}, 2),
    ("ppo", {"epochs": 2, "minibatches": 2, "costs": ["length?per_token=-0.1"], "kl_target": 0.5}, 2),
]


@pytest.mark.parametrize(("name", "settings", "rows"), ONLINE, ids=[name for name, *_ in ONLINE])
def test_two_processes_learn_from_rollouts_what_one_does(
    make: MakeRecipe, tmp_path: Path, name: str, settings: dict[str, Any], rows: int
) -> None:
    """The same prompts get the same answers, and credit is given over all of them: advantages are whitened over both
    processes' tokens, a minibatch has prompts of either, what moves from step to step moves in both. One row each: the
    sixth step has one in all, and leaves a process without a prompt."""
    train = {"max_steps": 7, "save_steps": 3}
    one = make(name, out="one", train={**train, "per_device_train_batch_size": 2 * rows}, **settings)
    two = make(name, out="two", train={**train, "per_device_train_batch_size": rows}, **settings)
    tune(one)
    tune_by_two(two, tmp_path)
    first, second = (load_file(next(r.output.dir.glob("adapter_model.safetensors"))) for r in (one, two))
    moved = max(float(w.abs().max()) for n, w in first.items() if "lora_B" in n)
    assert moved > 0
    assert max(float((first[n] - second[n]).abs().max()) for n in first) < 1e-3 * max(
        float(w.abs().max()) for w in first.values()
    )
    for alone, shared in zip(log_of(one.output.dir), log_of(two.output.dir), strict=True):
        assert alone["rollouts"].keys() == shared["rollouts"].keys()
        for key, value in alone["rollouts"].items():
            if not key.startswith("seconds"):
                assert shared["rollouts"][key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-3, abs=1e-5)
        assert shared["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-2)
        assert shared["said"] == alone["said"] or name == "grpo"  # of which each sees some of the prompts


def test_two_processes_that_were_killed_go_on_to_the_same_weights(make: MakeRecipe, tmp_path: Path) -> None:
    settings = {"epochs": 2, "train": {"max_steps": 6, "save_steps": 1}}
    whole, killed = make("ppo", out="whole", **settings), make("ppo", out="killed", **settings)
    tune_by_two(whole, tmp_path)
    team = start_two(killed, tmp_path)
    until = time.monotonic() + 60
    while not any(killed.output.dir.glob("checkpoint-*2")) and time.monotonic() < until:
        time.sleep(0.01)
    for process, _ in team:
        process.kill()
        process.join(60)
    assert not (killed.output.dir / "manifest.json").exists()
    tune_by_two(killed, tmp_path)
    one, two = ((r.output.dir / "adapter_model.safetensors").read_bytes() for r in (whole, killed))
    assert one == two


def test_what_goes_wrong_in_one_process_ends_both_with_its_words(make: MakeRecipe, tmp_path: Path) -> None:
    """A prompt too long for `max_length` in one of them: the other does not wait for ever."""
    recipe = make("grpo", train={"max_length": 28, "per_device_train_batch_size": 1, "max_steps": 5})
    shown = tune_by_two(recipe, tmp_path, exitcode=1)
    assert all("train.max_length is 28" in text for text in shown), shown
