"""What is written has the names of released checkpoints, and is the same model to whoever loads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.models import tiny
from vlmend.saving import TOWERS, rename_weights, write_model


def names(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= set(file.keys())
    return found


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_what_was_written_loads_as_it_was(family: str, tmp_path: Path) -> None:
    """Every weight of every family, none missing, none made anew."""
    model, _ = tiny.FAMILIES[family]()
    write_model(model, tmp_path)
    again, told = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    there = again.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, there[name]), name
    if getattr(getattr(model.config, "vision_config", None), "model_type", "") in TOWERS:  # as vLLM looks for them
        inside = [name for name in names(tmp_path) if "vision_tower." in name]
        assert inside
        assert all("vision_tower.vision_model." in name for name in inside)


def test_in_shards_the_index_tells_where_each_weight_is(tmp_path: Path) -> None:
    model, _ = tiny.llava_v15()
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    before = {name: weight for path in tmp_path.glob("*.safetensors") for name, weight in load_file(path).items()}
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    rename_weights(tmp_path, lambda name: f"x.{name}")
    after = {name: weight for path in tmp_path.glob("*.safetensors") for name, weight in load_file(path).items()}
    assert {f"x.{name}" for name in before} == set(after)
    assert all(torch.equal(weight, after[f"x.{name}"]) for name, weight in before.items())
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in index.items():
        assert name in load_file(tmp_path / file)
    assert set(index) == set(after)


def test_two_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    model, _ = tiny.llava_v15()
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="one name"):
        rename_weights(tmp_path, lambda name: "same")
    assert (tmp_path / "model.safetensors").read_bytes() == before
