"""Trackers get numbers and nothing else."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.train.conftest import MakeRecipe, log_of, tune
from vlmend.errors import ConfigError
from vlmend.train.run import scalars

pytest.importorskip("tensorboard")


def test_tensorboard_gets_the_log_as_scalars(make_recipe: MakeRecipe) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = make_recipe(train={"report_to": "tensorboard", "max_steps": 3})
    tune(recipe)
    events = EventAccumulator(str(recipe.output.dir / "vlmend"))
    events.Reload()
    tags: dict[str, Any] = events.Tags()
    entries = log_of(recipe.output.dir)
    assert set(tags["scalars"]) == set(scalars(entries[0]))
    assert not tags["images"]
    assert not tags["tensors"]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([entry["loss"] for entry in entries])


@pytest.mark.skipif(importlib.util.find_spec("trackio") is not None, reason="it is installed")
def test_a_tracker_that_is_not_installed_is_an_error(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ConfigError, match="not installed"):
        tune(make_recipe(train={"report_to": "trackio"}))
