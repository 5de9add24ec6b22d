"""Tampered models are what they are said to be: exactly the base, exactly the tuned one, and what lies between."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.evaluate.tamper.conftest import SUITE
from vlmend.backends.hf import Hf
from vlmend.data import load
from vlmend.errors import ModelError
from vlmend.evaluate.tamper.altered import WEIGHTS, Begun, Rounded, scaled_adapter
from vlmend.types import Decoding, Example, Message

GREEDY = Decoding(max_new_tokens=24)


def examples() -> list[Example]:
    return list(load(SUITE.partition(":")[2]).examples[:4])


def said(backend: Hf) -> dict[str, Any]:
    """Texts, and likelihoods to the last bit."""
    asked = examples()
    texts = {r.example_id: r.text for r in backend.generate(asked, GREEDY)}
    known = {f.example_id: f.by_token for f in backend.likelihoods([(e, e.answers[:1]) for e in asked])}
    return {"texts": texts, "known": known}


def scaled(run: Path, alpha: float, out: Path) -> Hf:
    return Hf(f"world+{scaled_adapter(run, alpha, 'world', {}, out)}")


def test_an_adapter_scaled_to_nothing_is_the_base_and_to_one_itself(forgotten: Path, tmp_path: Path) -> None:
    base, tuned = said(Hf("world")), said(Hf(f"world+{forgotten}"))
    assert base != tuned
    assert said(scaled(forgotten, 0.0, tmp_path / "none")) == base
    assert said(scaled(forgotten, 1.0, tmp_path / "all")) == tuned


def test_half_an_adapter_changes_the_weights_half_as_much(forgotten: Path, tmp_path: Path) -> None:
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    base, half, whole = (
        backend._loaded.model.state_dict()[name]
        for backend in (Hf("world"), scaled(forgotten, 0.5, tmp_path / "half"), Hf(f"world+{forgotten}"))
    )
    assert (whole - base).abs().max() > 1e-3
    assert torch.allclose(half - base, (whole - base) / 2, atol=1e-6)


def test_what_an_adapter_holds_whole_goes_back_to_the_base(forgotten: Path, tmp_path: Path) -> None:
    """As a projector that was tuned beside it."""
    name = "model.multi_modal_projector.linear_1.weight"
    before = Hf("world")._loaded.model.state_dict()[name]
    copy = tmp_path / "copy"
    shutil.copytree(forgotten, copy)
    moved = before + torch.randn_like(before)
    save_file({**load_file(copy / WEIGHTS), f"base_model.model.{name}": moved}, copy / WEIGHTS)
    for alpha, wanted in ((0.0, before), (1.0, moved), (0.5, (before + moved) / 2)):
        made = scaled_adapter(copy, alpha, "world", {}, tmp_path / f"{alpha}")
        found = load_file(made / WEIGHTS)[f"base_model.model.{name}"]
        assert torch.equal(found, wanted) if alpha in (0, 1) else torch.allclose(found, wanted)


@pytest.mark.parametrize("bits", [8, 2])
def test_rounded_weights_have_few_values_close_to_the_old(forgotten: Path, bits: int) -> None:
    name = f"world+{forgotten}"
    before = Hf(name)._loaded.model.state_dict()
    made = Rounded(name, bits=bits)
    after = made._loaded.model.state_dict()
    layer = "model.language_model.layers.1.mlp.up_proj.weight"
    assert max(len(row.unique()) for row in after[layer]) <= 2**bits - 1
    step = before[layer].abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((after[layer] - before[layer]).abs() <= step / 2 + 1e-7).all()
    assert torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    assert made.fingerprint not in (Hf(name).fingerprint, Rounded(name, bits=3).fingerprint)


def test_what_was_tuned_is_rounded_too_where_an_adapter_is_not_merged_by_itself(forgotten: Path) -> None:
    """As in 16 bits."""
    settings: dict[str, Any] = {"dtype": "bfloat16"}
    assert Hf(f"world+{forgotten}", **settings)._loaded.has_adapter
    made = Rounded(f"world+{forgotten}", bits=3, **settings)._loaded
    assert not made.has_adapter
    for row in made.model.state_dict()["model.language_model.layers.0.mlp.down_proj.weight"]:
        assert len(row.unique()) <= 2**3 - 1


def test_weights_that_are_quantized_already_are_not_rounded(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hf, "_loaded", property(lambda self: None))
    with pytest.raises(ModelError, match="already"):
        _ = Rounded(f"world+{forgotten}", bits=8, quantization="4bit").fingerprint


def test_an_answer_that_is_begun_goes_on_from_there(forgotten: Path) -> None:
    """Begun with the first words of what a model says anyway, it says the rest of it; the prompt grows by just them."""
    plain, asked = Hf("world"), examples()
    for response in plain.generate(asked, GREEDY):
        [example] = [e for e in asked if e.id == response.example_id]
        opening, _, _ = response.text.partition(" ")
        begun = Begun("world", opening=opening)
        [found] = begun.generate([example], GREEDY)
        assert found.text == response.text
        assert found.prompt_tokens > response.prompt_tokens
        assert found.tokens < response.tokens
        assert found.id != response.id
    other = {r.example_id: r.text for r in Begun("world", opening="No").generate(asked, GREEDY)}
    assert all(text.startswith("No ") for text in other.values())


def test_an_opening_can_write_no_code() -> None:
    begun = Begun("world", opening='{{ "x" }}" }} {% raw %}')
    asked = Example("e", (Message("user", ("Hello?",)),))
    batch = begun._loaded.codec.encode_prompts([asked])
    shown = begun._loaded.codec.tokenizer.decode(batch.inputs["input_ids"][0])
    assert shown.replace(" ", "").endswith('{{"x"}}"}}{%raw%}')


def test_likelihoods_of_a_begun_model_are_none_and_say_why() -> None:
    [found] = Begun("world").likelihoods([(examples()[0], ("Yes.",))])
    assert found.logprob is None
    assert "begun" in found.why
    assert asdict(found)["by_token"] == ()
