"""A run that was killed, interrupted or made to fail ends as if it had never been."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from tests.train.conftest import MakeRecipe, log_of, tune
from tests.train.worker import start
from vlmend.config import ModelConfig, Recipe
from vlmend.errors import ModelError, StoreError
from vlmend.models.load import load
from vlmend.store import Journal
from vlmend.train import checkpoint, loop, run
from vlmend.train.checkpoint import checkpoints, differences

TRAIN = {"max_steps": 8, "save_steps": 1, "save_total_limit": 2, "num_train_epochs": 2, "logging_steps": 3}
APART = {**TRAIN, "projector_learning_rate": 0.003}
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
    chance = random.Random(2)
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
    assert outcome.resumed_from == {"model_card": 8}.get(place, 4)
    assert same(whole, killed)
    sessions = json.loads((killed.output.dir / "manifest.json").read_text())["sessions"]
    assert sessions[0]["resumed_from"] == 0
    assert sessions[-1]["resumed_from"] == outcome.resumed_from
    assert len(sessions) > 1


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


def test_a_kill_in_the_very_first_write_leaves_a_folder_that_can_be_used(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    recipe.output.dir.mkdir()
    gone = recipe.output.dir / ".recipe.yaml.4194305.part"  # above the largest number a process can have
    mine = recipe.output.dir / f".log.jsonl.{os.getppid()}.part"  # of a process that still runs
    gone.write_text("model: {na")
    mine.touch()
    tune(recipe)
    assert not gone.exists()
    assert mine.exists()


def stopped_after(recipe: Recipe, step: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints of a run that died once `step` was kept."""
    with monkeypatch.context() as patch:
        honest = checkpoint.save_checkpoint

        def dies(*args: Any) -> Path:
            if args[1].step > step:
                raise Death
            return honest(*args)

        patch.setattr(checkpoint, "save_checkpoint", dies)
        with pytest.raises(Death):
            tune(recipe)
    return checkpoints(recipe.output.dir)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "pickled", "gone"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_goes_on(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    whole, hurt = make_recipe("whole", train=APART, model=NOISY), make_recipe("hurt", train=APART, model=NOISY)
    newest = stopped_after(hurt, 4, monkeypatch)[-1]
    file = newest / name
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    if damage == "flipped":
        content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    written = {"cut": bytes(content[:middle]), "pickled": pickle.dumps({"a": 1})}.get(damage, bytes(content))
    file.unlink() if damage == "gone" else file.write_bytes(written)
    if (name, damage) != ("state.json", "gone"):  # without it there is no whole checkpoint
        with pytest.raises(StoreError) as caught:
            tune(hurt)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
        shutil.rmtree(newest)
    outcome, _ = tune(hurt)
    assert outcome.resumed_from == 3
    tune(whole)
    assert same(whole, hurt)


def test_a_finished_run_whose_weights_were_changed_is_neither_kept_nor_loaded(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    tune(recipe)
    tuned = ModelConfig(name=recipe.model.name, adapter=str(recipe.output.dir), device="cpu")
    load(tuned)
    file = recipe.output.dir / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-8:] = bytes(255 - byte for byte in content[-8:])
    file.write_bytes(content)
    for again in (lambda: tune(recipe), lambda: load(tuned)):
        with pytest.raises(ModelError, match=r"adapter_model\.safetensors is not what was tuned"):
            again()
    file.unlink()
    with pytest.raises(ModelError, match=r"lacks adapter_model\.safetensors"):
        tune(recipe)


def test_the_last_checkpoint_a_step_went_well_from_outlives_the_one_that_did_not(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(train={**TRAIN, "save_total_limit": 1})
    honest = loop.take_step

    def wrecks(tuning: Any, window: Any) -> dict[str, float]:
        values = honest(tuning, window)
        if tuning.progress.step == 3:  # the fourth update
            next(iter(tuning.trained.values())).data.fill_(float("inf"))
        return values

    monkeypatch.setattr(loop, "take_step", wrecks)
    with pytest.raises(ModelError, match="checkpoint-00000004 led there, checkpoint-00000003 is the last"):
        tune(recipe)
    assert [path.name for path in checkpoints(recipe.output.dir)] == ["checkpoint-00000003", "checkpoint-00000004"]


FULL = {
    "save_file": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "write_json": OSError(errno.ENOSPC, "No space left on device"),
    "_sync": OSError(errno.ENOSPC, "No space left on device"),
}


@pytest.mark.parametrize("place", FULL)
def test_a_full_disk_is_one_line_and_keeps_nothing_of_what_did_not_fit(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    whole, full = make_recipe("whole", train=TRAIN, model=NOISY), make_recipe("full", train=TRAIN, model=NOISY)
    honest, calls = getattr(checkpoint, place), iter(range(100))

    def fills(*args: Any) -> Any:
        if next(calls) == 3:
            raise FULL[place]
        return honest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, place, fills)
        with pytest.raises(StoreError, match=r"full cannot be written \(.*[Nn]o space left.*MB are free") as caught:
            tune(full)
    assert "\n" not in str(caught.value)
    assert not list(full.output.dir.glob(".*.part"))
    outcome, _ = tune(full)
    assert outcome.resumed_from == 3
    tune(whole)
    assert same(whole, full)


def test_what_will_have_no_room_is_said_before_the_first_step(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(train=TRAIN)
    monkeypatch.setattr(run, "room_for", lambda *_: 1000)
    with pytest.raises(StoreError, match="has 0 MB of room, and this run writes"):
        tune(recipe)
    assert not checkpoints(recipe.output.dir)


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
