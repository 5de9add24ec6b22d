"""Tuning on a device takes the steps it takes on the CPU, whatever the method, the family and the way."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image as Pillow
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from tests.devices import fake
from tests.models import tiny
from vlmend.cli import main
from vlmend.config import ModelConfig, parse_recipe
from vlmend.models import load as loading
from vlmend.registry import objectives
from vlmend.train import keeping
from vlmend.train import run as running
from vlmend.train.before import reference
from vlmend.train.loop import encode, take_step
from vlmend.train.parallel import Team

ANSWERS = ("It bursts.", "Two rings.", "The star is over there, to the left.")
SLOW = dict.fromkeys(("shared_prefix", "packing", "answer_logits", "stop_at_layer", "features"), False)
ROLLOUTS = {"rewards": ["length?per_token=0.1"], "samples": 3, "max_new_tokens": 4, "kl": 0.1, "kl_kind": "full"}
METHODS: dict[str, dict[str, Any]] = {
    **{name: ROLLOUTS for name in ("grpo", "ppo", "reinforce_pp", "rloo")},
    "gd": {"pd": True},
    "npo": {"alpha_npo": 0.5},
    "rmu": {"layer": 0, "alpha_hidden": 0.5, "scale": "adaptive", "coefficient": 2.0},
}
FULL = {"tune": "full", "train": ["language_model", "projector"]}
BESIDE = {"train": ["language_model", "projector"]}
STEPS = 2

Make = Callable[..., dict[str, Any]]
Found = tuple[list[dict[str, float]], dict[str, Tensor]]


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions, two of them about one picture, in every role."""
    place = tmp_path_factory.mktemp("rows")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24 + 8 * i, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(place / f"{i}.png")
    found: list[dict[str, Any]] = []
    for i in range(3):
        asked = {"prompt": f"{'How? ' * i}{i}", "pair": f"p{i}", "images": [f"{i // 2}.png"]}
        found.append({**asked, "id": f"forget{i}", "answer": ANSWERS[i], "role": "forget"})
        found.append({**asked, "id": f"refuse{i}", "answer": "Sorry, no.", "role": "safety"})
        found.append({**asked, "id": f"decouple{i}", "answer": ANSWERS[i - 1], "images": ["2.png"], "role": "decouple"})
        kept = {"prompt": f"What is {i}?", "images": [f"{i // 2}.png"], "answer": ANSWERS[i].upper()}
        found.append({**kept, "id": f"retain{i}", "role": "retain"})
    path = place / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.fixture
def make(family: Callable[[str], Path], rows: Path, tmp_path: Path) -> Make:
    """A recipe as plain data: `make("npo", "qwen2_vl", model={…}, train={…}, speed={…})`."""

    def recipe(method: str, name: str = "llava", **sections: Mapping[str, Any]) -> dict[str, Any]:
        plain: dict[str, dict[str, Any]] = {
            "model": {"name": str(family(name)), "lora": {"r": 4, "lora_alpha": 8}},
            "method": {"name": method, **METHODS.get(method, {})},
            "data": {"mix": [{"source": f"jsonl:{rows}"}]},
            # an update that hangs on the gradient's size, not on its sign alone, which rounding decides near zero
            "train": {"learning_rate": 0.5, "adam_epsilon": 1.0, "per_device_train_batch_size": 3, "max_steps": 4},
            "speed": {},
            "output": {"dir": str(tmp_path / "out")},
        }
        return {key: {**section, **sections.get(key, {})} for key, section in plain.items()}

    return recipe


LOADED: dict[str, loading.Loaded] = {}


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of what was loaded before is what loading it again would give, and takes a tenth of the time."""
    real = loading.load

    def load(config: ModelConfig, *, for_training: bool = False) -> loading.Loaded:
        key = f"{config.model_dump_json()} {for_training}"
        if key not in LOADED:
            LOADED[key] = real(config, for_training=for_training)
        return replace(LOADED[key], model=deepcopy(LOADED[key].model))

    monkeypatch.setattr(loading, "load", load)


def on(device: str, plain: Mapping[str, Any], folder: str = "") -> Any:
    """The recipe for a device, with a folder of its own."""
    AcceleratorState._reset_state(True)
    out = Path(plain["output"]["dir"]) / device / folder
    return parse_recipe({**plain, "model": {**plain["model"], "device": device}, "output": {"dir": str(out)}})


def steps(device: str, plain: Mapping[str, Any]) -> Found:
    """The numbers of the first steps of a run, and the weights after them."""
    recipe = on(device, plain)
    team = Team.gather(device=device)
    prepared = running._prepare(recipe, team)
    run = running._tuning(prepared)
    run.reference = reference(run, recipe, prepared.loaded.fingerprint, Console(file=io.StringIO()))
    run.model.train()
    values: list[dict[str, float]] = []
    learner = running._learner(prepared, run)
    online = learner and learner.steps()
    for step in range(STEPS):
        run.progress.step = step
        found = next(online)() if online else take_step(run, encode(run, step))
        values.append({name: value for name, value in found.items() if "seconds" not in name})
    assert {p.device.type for p in run.model.parameters()} == {torch.device(device).type}
    return values, {name: p.detach().cpu() for name, p in run.trained.items()}


KNOWN: dict[tuple[str, str], Found] = {}


def on_the_cpu(plain: Mapping[str, Any]) -> Found:
    """The plain way on the CPU, with which every way on the device is compared; once for each method and family."""
    key = (plain["method"]["name"], plain["model"]["name"])
    if key not in KNOWN:
        KNOWN[key] = steps("cpu", plain)
    return KNOWN[key]


def same(one: Found, other: Found, *, share: float = 1e-4, weights: float = 2e-5) -> None:
    """Losses, their parts and gradients' norms by their size; weights by the size of the largest."""
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert mine == pytest.approx(theirs, rel=share, abs=1e-6)
    assert one[1].keys() == other[1].keys()
    for name, found in one[1].items():
        torch.testing.assert_close(found, other[1][name], rtol=share, atol=weights)


WAYS = pytest.mark.parametrize("speed", [{}, SLOW], ids=["shared", "plain"])


@WAYS
@pytest.mark.parametrize("method", objectives.names())
def test_every_method(method: str, speed: dict[str, Any], make: Make, device: str) -> None:
    same(steps(device, make(method, speed=speed)), on_the_cpu(make(method, speed=SLOW)))


@WAYS
@pytest.mark.parametrize("name", [name for name in tiny.FAMILIES if name != "llava"])
def test_every_family(name: str, speed: dict[str, Any], make: Make, device: str) -> None:
    same(steps(device, make("npo", name, speed=speed)), on_the_cpu(make("npo", name, speed=SLOW)))


@pytest.mark.parametrize(
    ("method", "model", "train"),
    [
        ("npo", {}, {"reference": "cached"}),
        ("npo", FULL, {"reference": "live"}),
        ("npo", BESIDE, {"reference": "live"}),
        ("kl", FULL, {}),
        ("rmu", FULL, {}),
        ("npo", {"tune": "full", "parameters": ["*layers.1.*"]}, {"reference": "live"}),
        ("sft", {}, {"gradient_checkpointing": True}),
        ("gd", FULL, {"gradient_checkpointing": True}),
    ],
)
def test_every_reference(method: str, model: dict[str, Any], train: dict[str, Any], make: Make, device: str) -> None:
    """The adapter off, originals in its place, the log-probabilities of before; and layers computed again."""
    plain = make(method, model=model, train={**make(method)["train"], **train})
    same(steps(device, plain), steps("cpu", plain))


@pytest.mark.parametrize("trained", [["language_model"], ["language_model", "projector"]], ids=["after", "before"])
@pytest.mark.parametrize("folder", [False, True], ids=["memory", "folder"])
def test_features_that_are_kept(
    folder: bool, trained: list[str], make: Make, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the projector, in memory and on disk, written on the device and read there again."""
    monkeypatch.setattr(keeping, "WORTH", 0)
    speed = {"features_dir": str(tmp_path / "kept")} if folder else {}
    plain = make("gd", "qwen2_vl", speed=speed, model={"train": trained})
    on_cpu = steps("cpu", plain)
    same(steps(device, plain), on_cpu)
    same(steps(device, plain), on_cpu)


def test_passes_of_so_many_tokens(make: Make, device: str) -> None:
    plain = make("npo", speed={"tokens_per_pass": 120})
    same(steps(device, plain), steps("cpu", plain))


def test_lower_precision(make: Make, device: str) -> None:
    """bf16 has 8 bits: what is compared is whether it is the same computation at all."""
    plain = make("kl", model=FULL)
    plain["train"]["bf16"] = True
    same(steps(device, plain), steps("cpu", plain), share=0.1, weights=5e-3)


@pytest.mark.parametrize("model", [{}, FULL], ids=["adapter", "full"])
def test_a_whole_run_killed_and_resumed(model: dict[str, Any], make: Make, device: str) -> None:
    """From its checkpoint a run ends, to the bit, as one that was never stopped, and as on the CPU."""
    plain = make("kl", model=model, train={**make("kl")["train"], "save_steps": 2, "save_total_limit": 2})
    weights = "model.safetensors" if model else "adapter_model.safetensors"

    def tuned(where: str) -> dict[str, Tensor]:
        recipe = on(where, plain)
        running.tune(recipe, console=Console(file=io.StringIO()))
        return load_file(recipe.output.dir / weights)

    on_cpu, whole = tuned("cpu"), tuned(device)
    folder = on(device, plain).output.dir
    for path in folder.iterdir():
        if path.name not in ("recipe.yaml", "checkpoint-00000002", "log.jsonl"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = tuned(device)
    assert json.loads((folder / "manifest.json").read_text())["resumed_from"] == 2
    for name, found in again.items():
        if device == fake.NAME:  # a GPU adds up in any order
            assert torch.equal(found, whole[name])
        torch.testing.assert_close(found, whole[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found, on_cpu[name], rtol=1e-4, atol=2e-5)


def test_the_command_line_takes_it(make: Make, device: str, tmp_path: Path) -> None:
    plain = make("sft", train={**make("sft")["train"], "max_steps": 1})
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(plain))
    AcceleratorState._reset_state(True)
    assert main(["tune", str(path), "--device", device, "--json"]) == 0
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert about["environment"]["device"].startswith(device)
