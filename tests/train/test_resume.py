"""A run that was killed, interrupted or made to fail ends as if it had never been."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.train.conftest import MakeRecipe, log_of, tune
from tests.train.worker import start
from vlmend.config import Recipe
from vlmend.errors import StoreError
from vlmend.store import Journal
from vlmend.train import checkpoint, run
from vlmend.train.checkpoint import checkpoints, differences

TRAIN = {"max_steps": 8, "save_steps": 1, "save_total_limit": 2, "num_train_epochs": 2, "logging_steps": 3}
NOISY = {"lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.3}, "train": ["language_model", "projector"]}


def weights(recipe: Recipe) -> bytes:
    return (recipe.output.dir / "adapter_model.safetensors").read_bytes()


def losses(recipe: Recipe) -> list[tuple[int, float, float]]:
    return [(entry["step"], entry["loss"], entry["lr"]) for entry in log_of(recipe.output.dir)]


def same(one: Recipe, two: Recipe) -> bool:
    return weights(one) == weights(two) and losses(one) == losses(two)


def wait_for(process: BaseProcess, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.is_alive(), "the run ended early"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def newest(recipe: Recipe) -> int:
    """Step of the newest checkpoint."""
    return max((int(p.name[len(checkpoint.PREFIX) :]) for p in checkpoints(recipe.output.dir)), default=0)


def test_kill_at_any_time_changes_no_bit(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    chance = random.Random()
    train = {**TRAIN, "max_steps": 60}
    whole, killed = make_recipe("whole", train=train, model=NOISY), make_recipe("killed", train=train, model=NOISY)
    for step in sorted(chance.sample(range(1, 45), 2)):
        process = start(killed, tmp_path / "shown.txt")
        wait_for(process, lambda step=step: newest(killed) >= step)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.join()
        assert not (killed.output.dir / "manifest.json").exists()
    tune(whole)
    outcome, shown = tune(killed)
    assert outcome.resumed_from > 0
    assert f"going on from step {outcome.resumed_from}" in shown
    assert same(whole, killed)
    assert len(checkpoints(killed.output.dir)) == 2
    assert not list(killed.output.dir.glob(".*.part"))


class Death(BaseException):
    """Stands for a kill at one exact place."""


@pytest.mark.parametrize("place", ["save_file", "write_json", "_sync", "prune", "model_card"])
def test_death_while_writing_changes_no_bit(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    # the first logs more often than it saves, so that the log too must go back
    train = {**TRAIN, "logging_steps": 1 if place == "save_file" else 3}
    whole, killed = make_recipe("whole", train=train, model=NOISY), make_recipe("killed", train=train, model=NOISY)
    tune(whole)
    module = run if place == "model_card" else checkpoint
    honest, calls = getattr(module, place), iter(range(100))

    def dies(*args: object) -> object:
        if next(calls) == (0 if place == "model_card" else 4):
            raise Death
        return honest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, place, dies)
        with pytest.raises(Death):
            tune(killed)
    outcome, _ = tune(killed)
    assert outcome.resumed_from == {"prune": 5, "model_card": 8}.get(place, 4)
    assert same(whole, killed)


def test_ctrl_c_keeps_the_step_and_the_same_command_goes_on(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train = {**TRAIN, "max_steps": 100, "save_steps": 0, "logging_steps": 1}
    whole, stopped = make_recipe("whole", train=train), make_recipe("stopped", train=train)
    process = start(stopped, tmp_path / "shown.txt")
    log = stopped.output.dir / "log.jsonl"
    wait_for(process, lambda: log.exists() and log.stat().st_size > 0)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert "which is kept" in (tmp_path / "shown.txt").read_text()
    tune(whole)
    outcome, _ = tune(stopped)
    assert 0 < outcome.resumed_from < 100
    assert not checkpoints(stopped.output.dir)  # no save_steps: it was kept for this only
    assert same(whole, stopped)


def test_a_checkpoint_of_another_recipe_is_refused(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(train=TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(run, "_check_moved", lambda *_: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            tune(recipe)
    other = make_recipe(train={**TRAIN, "seed": 5}, model={"lora": {"r": 8}})
    with pytest.raises(StoreError, match=r"recipe\.model\.lora\.r is 4 there and 8 here.*recipe\.train\.seed is 0"):
        tune(other)
    image = next(path for path in Path(recipe.data.mix[0].source.removeprefix("jsonl:")).parent.glob("*.png"))
    before = image.read_bytes()
    try:
        image.write_bytes(before + b"\0")
        with pytest.raises(StoreError, match="data is"):
            tune(recipe)
    finally:
        image.write_bytes(before)
    saved_more_often = make_recipe(train={**TRAIN, "save_steps": 3, "logging_steps": 3})
    assert tune(saved_more_often)[0].resumed_from == 8


def test_a_second_process_on_the_folder_is_refused(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    recipe.output.dir.mkdir()
    (recipe.output.dir / "recipe.yaml").touch()
    with Journal(recipe.output.dir / "log.jsonl"), pytest.raises(StoreError, match="another process"):
        tune(recipe)


def test_differences_name_every_leaf() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c is 2 there and 3 here",
        "d is None there and 4 here",
    ]
    assert differences({"a": [1]}, {"a": [1]}) == []


def test_only_the_newest_checkpoints_are_kept(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(train={**TRAIN, "save_steps": 3, "save_total_limit": 1})
    tune(recipe)
    assert [path.name for path in checkpoints(recipe.output.dir)] == ["checkpoint-00000006"]
    assert os.listdir(recipe.output.dir / "checkpoint-00000006")
