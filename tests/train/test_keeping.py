"""A picture is looked at once: what is kept gives the plain losses and gradients, and is only kept where it may be."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.conftest import MakeRecipe, ready, tune
from tests.train.test_speed import SLOW, Make, folder, gradient, make, rows, same
from vlmend.config import SpeedConfig
from vlmend.errors import StoreError
from vlmend.models.parts import outermost, owner
from vlmend.models.prompts import bare
from vlmend.train import keeping
from vlmend.train.keeping import Showing
from vlmend.train.loop import Tuning, encode
from vlmend.train.speed import choose

__all__ = ["folder", "make", "rows"]  # fixtures of test_speed
BESIDE = {"train": ["language_model", "projector"]}
KEPT = {**SLOW, "features": True}


@pytest.fixture(autouse=True)
def _any_tower_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "WORTH", 0)


@contextmanager
def looking(run: Tuning) -> Iterator[list[int]]:
    """How often the first layer of the vision tower runs."""
    core = bare(run.model)
    tower = core.get_submodule(outermost(core, "vision_tower")[0])
    layer = next(m for m in tower.modules() if isinstance(m, torch.nn.ModuleList))[0]
    ran: list[int] = []
    handle = layer.register_forward_hook(lambda *_: ran.append(1))
    yield ran
    handle.remove()


def again(run: Tuning) -> tuple[torch.Tensor, dict[str, float], int]:
    run.optimizer.zero_grad()
    return gradient(run)


def ends_before_the_projector(run: Tuning) -> bool:
    return "qwen" not in run.codec.model_type


def others(run: Tuning, speed: SpeedConfig) -> list[str]:
    """What is said of another choice for the same run."""
    showing = Showing(tuple(e for e in run.examples if e.images), 2)
    return choose(speed, run.model, run.codec, run.objective.needs, showing).lines()


@pytest.mark.parametrize("speed", [{}, KEPT], ids=["all", "alone"])
@pytest.mark.parametrize("name", ["gd", "npo"])
def test_a_projector_is_tuned_on_what_the_tower_gave_once(make: Make, name: str, speed: dict[str, Any]) -> None:
    plain = gradient(make(name, SLOW, BESIDE))
    run = make(name, speed, BESIDE)
    with looking(run) as ran:
        same(gradient(run), plain)
        assert ran
        ran.clear()
        same(again(run), plain)
        assert bool(ran) is not ends_before_the_projector(run)
    about = "what the vision tower gives" if ends_before_the_projector(run) else "no features: the projector is trained"
    assert about in "\n".join(run.ways.lines())


def test_where_nothing_of_it_is_tuned_the_second_look_costs_nothing(make: Make) -> None:
    plain, run = gradient(make("gd", SLOW)), make("gd", {}, gradient_checkpointing=True)
    with looking(run) as ran:
        same(gradient(run), plain)
        assert ran
        ran.clear()
        same(again(run), plain)
        assert not ran


def test_of_a_tower_that_is_tuned_nothing_is_kept(make: Make) -> None:
    run = make("gd", {}, {"train": ["language_model", "projector", "vision_tower"], "tune": "full"})
    with looking(run) as ran:
        for look in (gradient, again):
            ran.clear()
            look(run)
            assert ran
    assert any("no features: the vision tower is trained" in line for line in run.ways.lines())
    assert run.ways.features is not None
    assert len(run.ways.features.kept) == 0  # type: ignore[arg-type]


def test_a_folder_serves_the_next_run_unless_the_tower_is_another(make: Make, tmp_path: Path) -> None:
    speed = {"features_dir": str(tmp_path / "features")}
    plain = gradient(make("gd", SLOW))
    gradient(make("gd", speed))
    second = make("gd", speed)
    assert any("where 3 are" in line for line in second.ways.lines())
    with looking(second) as ran:
        same(gradient(second), plain)
        assert not ran
    named = bare(second.model).named_parameters()
    weight = next(p for name, p in named if owner(name) == "vision_tower" and p.ndim > 1)
    weight.data *= 1.5
    assert any("where 0 are" in line for line in others(second, SpeedConfig(features_dir=tmp_path / "features")))
    weight.data /= 1.5


def test_what_is_not_exact_or_does_not_pay_is_not_kept(make: Make) -> None:
    run = make("gd", {})
    assert any("speed:" in line and "features" in line for line in others(run, SpeedConfig()))
    assert not any("features" in line for line in others(run, SpeedConfig(features=False)))
    core = bare(run.model)
    layer = core.get_submodule(outermost(core, "vision_tower")[0])
    layer.dropout = 0.1
    assert any("drops out" in line for line in others(run, SpeedConfig()))


def test_what_does_not_fit_is_said_and_a_disk_without_room_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("gd", {})
    monkeypatch.setattr(keeping, "MIB", 1000)  # tiny pictures take some hundred bytes
    assert any("as many as fit into features_mb 1 " in line for line in others(run, SpeedConfig(features_mb=1)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        StoreError, match=r"has 1.0 kB free, and the features of these pictures take \d.*choose another"
    ):
        others(run, SpeedConfig(features_dir=tmp_path / "features"))
    with pytest.raises(StoreError, match=r"speed.features_dir .* cannot be written"):
        others(run, SpeedConfig(features_dir=Path(__file__) / "features"))


# One question about each picture


def test_for_a_small_tower_no_pass_goes_apart(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "WORTH", 1e9)
    run = ready(make_recipe(train={"max_steps": 12}, speed={"packing": False}))
    assert not any(micro.parts for step in range(6) for micro in encode(run, step))
    assert any("only in passes that share something" in line for line in run.ways.lines())


@pytest.mark.parametrize("max_steps", [6, 12])
def test_one_question_per_picture_goes_apart_only_when_it_comes_again(make_recipe: MakeRecipe, max_steps: int) -> None:
    run = ready(make_recipe(train={"max_steps": max_steps}, speed={"shared_prefix": False, "packing": False}))
    assert run.plan.steps_per_epoch == 6
    more = max_steps > 6
    parts = [len(micro.parts) > 0 for step in range(6) for micro in encode(run, step)]
    assert any(parts) is more
    said = "\n".join(run.ways.lines())
    assert ("features: of 10 pictures" in said) is more
    assert ("no features: no picture comes twice" in said) is not more


def test_a_run_of_several_epochs_ends_at_the_plain_weights_and_looks_once(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    ends: list[float] = []
    for name, speed in (("plain", {"features": False}), ("kept", {"features_dir": str(tmp_path / "features")})):
        outcome, shown = tune(make_recipe(name, train={"max_steps": 18}, model=BESIDE, speed=speed))
        ends.append(outcome.moved)
        assert (re.search(r"features: of 10 pictures, [\d.,]+ k?(B|bytes) each", shown) is not None) is (name == "kept")
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
    index = next((tmp_path / "features").rglob("*.jsonl"))
    assert len({tuple(json.loads(line)["pictures"]) for line in index.read_text().splitlines()}) == 10
    assert len(index.read_text().splitlines()) == 10
