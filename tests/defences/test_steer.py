"""Steering: what the closed form leaves alone, what strength 0 does, and that exported weights say the same."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.defences.conftest import Talker, ask, example, single
from vlmend import data
from vlmend.cli import main
from vlmend.config import ModelConfig
from vlmend.errors import ConfigError, DataError, StoreError, UsageError
from vlmend.models import steering
from vlmend.models.load import Loaded, load
from vlmend.registry import backend_for
from vlmend.types import Decoding, Example, Expected

HOW = Decoding(max_new_tokens=6)


@pytest.fixture(scope="module")
def world() -> Loaded:
    return load(ModelConfig(name="world", dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def sides() -> list[Example]:
    found = data.load("world:safety#train?openers=balanced&n=80").examples
    return [
        *[e for e in found if e.expected is Expected.REFUSE][:10],
        *[e for e in found if e.expected is Expected.ANSWER][:10],
    ]


@pytest.fixture(scope="module")
def fitted(world: Loaded, sides: list[Example]) -> steering.Steering:
    return steering.fit(world, sides, name="world", data="world:safety#train?openers=balanced&n=80")


@pytest.fixture(scope="module")
def folder(fitted: steering.Steering, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("steering") / "saved"
    steering.save(fitted, out)
    return out


def put_out(world: Loaded, examples: list[Example], layer: int, during: Any) -> torch.Tensor:
    """What a layer puts out at the last token of each prompt (n, d)."""
    seen: list[torch.Tensor] = []
    block, _ = steering.layers(world.model)[layer]
    with during, torch.inference_mode():
        handle = block.register_forward_hook(
            lambda _, __, out: seen.append((out[0] if isinstance(out, tuple) else out)[0, -1])
        )
        for one in examples:
            world.model(**world.codec.encode_prompts([one]).inputs, use_cache=False)
        handle.remove()
    return torch.stack(seen)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_closed_form_leaves_harmless_activations_and_moves_harmful_ones_by_v(
    layer: int, world: Loaded, sides: list[Example], fitted: steering.Steering
) -> None:
    def steered(strength: float) -> Any:
        return steering.steered(world.model, fitted, layer, strength, "closed")

    for some, moves in ((sides[10:], False), (sides[:10], True)):
        before, after = put_out(world, some, layer, nullcontext()), put_out(world, some, layer, steered(2.0))
        if moves:
            shift = (after - before) @ fitted.v[layer] / fitted.v[layer].square().sum()
            assert float(shift.mean()) == pytest.approx(2.0, rel=0.15), "by twice v, as far as ridge and others allow"
            assert bool((shift > 0).all())
        else:
            assert float((after - before).abs().max()) < 1e-5 * max(1.0, float(before.abs().max()))


def test_adding_moves_everything_by_v_and_nothing_is_left_of_it(
    world: Loaded, sides: list[Example], fitted: steering.Steering
) -> None:
    before = put_out(world, sides, 1, nullcontext())
    after = put_out(world, sides, 1, steering.steered(world.model, fitted, 1, -0.5, "add"))
    assert torch.allclose(after - before, -0.5 * fitted.v[1].expand_as(before), atol=1e-4)
    assert torch.equal(put_out(world, sides, 1, nullcontext()), before)


def test_v_is_the_difference_of_means(world: Loaded, sides: list[Example], fitted: steering.Steering) -> None:
    found = put_out(world, sides, 2, nullcontext())
    assert torch.allclose(fitted.v[2], found[:10].mean(0) - found[10:].mean(0), atol=1e-5)


@pytest.mark.parametrize(("rows", "width"), [(3, 8), (20, 64)])
def test_the_reader_is_orthogonal_to_harmless_rows_and_reads_one_of_harmful_ones(rows: int, width: int) -> None:
    random = torch.Generator().manual_seed(rows)
    harmful, harmless = (torch.randn(rows, width, generator=random, dtype=torch.float64) for _ in range(2))
    w = steering.orthogonal_reader(harmful, harmless, harmful[:0])
    assert float((harmless @ w).abs().max()) < 1e-12
    assert float((harmful @ w).mean()) == pytest.approx(1.0, abs=0.02)
    with pytest.raises(DataError, match="no direction"):
        steering.orthogonal_reader(harmful, torch.eye(width, dtype=torch.float64), harmful[:0])


@pytest.mark.parametrize("how", ["closed", "add"])
def test_strength_zero_says_what_the_model_says(how: str, folder: Path, sides: list[Example]) -> None:
    plain = backend_for("world")
    changed = single(f"steer:{folder}?strength=0&how={how}").over(plain)  # type: ignore[attr-defined]
    some = [sides[0], sides[15], sides[1]]
    said = {r.example_id: r for r in plain.generate(some, HOW)}
    found = list(changed.generate(some, HOW))
    assert {r.example_id: r.text for r in found} == {name: r.text for name, r in said.items()}
    assert {r.id for r in found}.isdisjoint({r.id for r in said.values()})


def test_exported_weights_load_in_plain_transformers_and_give_the_same_tokens(
    folder: Path, sides: list[Example], tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    assert main(["steer", "export", str(folder), "--out", str(tmp_path / "made"), "--strength", "3"]) == 0
    some = sides[:3] + sides[10:13]
    hooked = single(f"steer:{folder}?strength=3").over(backend_for("world"))  # type: ignore[attr-defined]
    made = load(ModelConfig(name=str(tmp_path / "made"), dtype="float32", device="cpu"))
    model: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "made").eval()
    wanted = {r.example_id: r.text for r in hooked.generate(some, HOW)}
    for one in some:
        inputs = made.codec.encode_prompts([one]).inputs
        ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert made.codec.decode(ids.tolist()).strip() == wanted[one.id].strip()
    assert wanted != {r.example_id: r.text for r in backend_for("world").generate(some, HOW)}
    with pytest.raises(StoreError, match="not empty"):
        steering.export(folder, tmp_path / "made")


def test_the_command_fits_within_a_hundred_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "steer",
        "fit",
        "world",
        "--data",
        "world:safety#train?openers=balanced&n=80",
        "--out",
        str(tmp_path / "s"),
    ]
    assert main([*given, "--limit", "101"]) == 2
    assert main([*given, "--limit", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["harmful"], told["harmless"], len(told["separation"])) == (4, 4, 4)
    assert steering.read(tmp_path / "s").layer == told["layer"]


def test_what_cannot_be_steered_is_one_line(folder: Path, tmp_path: Path, fitted: steering.Steering) -> None:
    with pytest.raises(UsageError, match="runs here"):
        ask(tmp_path, Talker(), [example("one", "What?")], [f"steer:{folder}"])
    with pytest.raises(ConfigError, match="holds no steering"):
        ask(tmp_path, Talker(), [example("one", "What?")], [f"steer:{tmp_path}"])
    with pytest.raises(ConfigError, match="layers 0 to 3"):
        steering.checked_layer(fitted, 4)
    with pytest.raises(UsageError, match="other weights"):
        steering.refuse_other(fitted, "others")
    with pytest.raises(DataError, match="two harmless"):
        steering.fit(None, [example("one", "What?")] * 3, name="m", data="d")  # type: ignore[arg-type]
