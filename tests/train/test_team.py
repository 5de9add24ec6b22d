"""What processes decide together, and what of their surroundings a run refuses rather than passes over."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.train.conftest import MakeRecipe, tune
from tests.train.test_processes import free_port
from vlmend.config import TrainConfig
from vlmend.errors import ConfigError, StoreError, UnknownName, UsageError
from vlmend.train import checkpoint
from vlmend.train.identity import refuse_other
from vlmend.train.parallel import Team


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MIXED_PRECISION", "bf16", r"mixed precision bf16.*train\.bf16=true does that"),
        ("MIXED_PRECISION", "fp16", r"mixed precision fp16.*model\.dtype and train\.bf16 are what there is"),
        ("MIXED_PRECISION", "fp8", "mixed precision fp8"),
        ("GRADIENT_ACCUMULATION_STEPS", "4", r"4 gradient accumulation steps.*gradient_accumulation_steps=4 does that"),
        ("DYNAMO_BACKEND", "inductor", "dynamo backend inductor"),
    ],
)
def test_what_accelerate_asks_for_and_the_recipe_does_not_is_refused(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    recipe = make_recipe()
    monkeypatch.setenv(f"ACCELERATE_{name}", value)
    with pytest.raises(ConfigError, match=says):
        tune(recipe)
    assert not recipe.output.dir.exists()


def test_what_the_recipe_asks_for_as_well_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch` sets all of these, to what says nothing where it was asked for nothing."""
    for name, value in (("MIXED_PRECISION", "no"), ("GRADIENT_ACCUMULATION_STEPS", "1"), ("DYNAMO_BACKEND", "NO")):
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    Team.gather(device="cpu")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    Team.gather(device="cpu", config=TrainConfig(bf16=True, gradient_accumulation_steps=4))


def of_two(work: Callable[[Team, int, Path], object], folder: Path) -> list[object]:
    """What each of two processes makes of it, the second one's answer after the first one's."""
    context = multiprocessing.get_context("spawn")
    port = str(free_port())
    processes = [context.Process(target=_run, args=(work, rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def _run(work: Callable[[Team, int, Path], object], rank: int, port: str, folder: Path) -> None:
    ours = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({**ours, "MASTER_PORT": port})
    torch.set_num_threads(1)
    team = Team.gather(device="cpu")
    (folder / f"{rank}.json").write_text(json.dumps(work(team, rank, folder)))
    team.wait()


def decide(team: Team, rank: int, folder: Path) -> object:
    """Each sees other checkpoints; the first writes into the folder before the second has looked at it."""
    own = folder / str(rank)
    for step in range(1 + rank):
        (own / f"checkpoint-{step:08d}").mkdir(parents=True)
        (own / f"checkpoint-{step:08d}" / checkpoint.STATE).touch()
    newest = team.first(lambda: checkpoint.checkpoints(own)[-1].name)
    shared = folder / "run"
    if team.is_main:
        shared.mkdir()
    team.wait()
    looked = team.first(lambda: refuse_other(shared, {"recipe": {}}))
    if team.is_main:
        (shared / "half.txt").touch()  # no run's folder any more
    team.wait()
    try:
        team.first(lambda: refuse_other(shared, {"recipe": {}}))
    except StoreError as error:
        return [newest, looked, str(error), team.any(rank == 1), team.any(False)]
    return None


def test_the_first_process_decides_for_all_by_what_it_sees(tmp_path: Path) -> None:
    one, two = of_two(decide, tmp_path)
    assert one == two
    assert isinstance(one, list)
    newest, looked, error, anyone, nobody = one
    assert (newest, looked, anyone, nobody) == ("checkpoint-00000000", None, True, False)
    assert "holds no tuning run" in error


def share(team: Team, rank: int, folder: Path) -> object:
    """Each has something of its own; then one of them fails, with an error that takes more than its message to make."""
    del folder

    def works() -> int:
        if rank == 1:
            raise UnknownName("thing", "a", ["b"])
        return rank

    collected = team.collect({"rank": rank})
    fine = team.together(lambda: rank * 10)
    try:
        team.together(works)
    except UsageError as error:
        return [collected, fine, str(error)]
    return None


def test_what_one_process_fails_at_is_raised_in_all(tmp_path: Path) -> None:
    one, two = of_two(share, tmp_path)
    everyone, said = [{"rank": 0}, {"rank": 1}], "no thing named 'a'. Known: b."
    assert one == [everyone, 0, said]
    assert two == [everyone, 10, said]
