"""Features that were kept are those the model computes, in every family, wherever they were cut and kept."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny
from vlmend.models.codec import Codec
from vlmend.models.features import Features, Output
from vlmend.models.kept import Kept, Memory, Shelf
from vlmend.models.parts import outermost
from vlmend.models.prompts import Prompt, prompt
from vlmend.models.tower import tower_of, varies
from vlmend.types import Example

BRANCHING = [name for name in tiny.FAMILIES if name not in ("gemma3", "paligemma", "mllama")]
INSIDE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v")  # the projector is in the tower


@pytest.fixture(scope="module", params=BRANCHING)
def made(request: pytest.FixtureRequest) -> tuple[str, Any, Codec]:
    model, processor = tiny.FAMILIES[request.param]()
    return request.param, model, Codec(processor, model.config, model.generation_config)


@pytest.fixture
def family(made: tuple[str, Any, Codec]) -> tuple[str, Any, Codec]:
    made[1].requires_grad_(False)
    return made


def calls(model: Any) -> Iterator[list[int]]:
    """How often the first layer of the tower has run."""
    tower = model.get_submodule(outermost(model, "vision_tower")[0])
    layer = next(m for m in tower.modules() if isinstance(m, torch.nn.ModuleList))[0]
    ran: list[int] = []
    handle = layer.register_forward_hook(lambda *_: ran.append(1))
    yield ran
    handle.remove()


def tensors(value: Any) -> list[torch.Tensor]:
    if value is None or isinstance(value, torch.Tensor):
        return [] if value is None else [value]
    return [t for item in value for t in tensors(item)]


def same(found: Output | None, alone: list[Any]) -> bool:
    """The features of prompts together are those of each by the model itself."""
    assert found is not None
    ours = torch.cat([t.flatten() for t in tensors(found.pooler_output)])
    theirs = torch.cat([t.flatten() for output in alone for t in tensors(output.pooler_output)])
    deep = [torch.cat([t.flatten() for t in tensors(layer)]) for layer in found.deepstack_features or []]
    layers = [o.get("deepstack_features") or [] for o in alone]
    other = [torch.cat([t.flatten() for part in layer for t in tensors(part)]) for layer in zip(*layers, strict=True)]
    assert len(deep) == len(other)
    pairs = zip([ours, *deep], [theirs, *other], strict=True)
    return all(torch.allclose(one, two, rtol=1e-5, atol=1e-6) for one, two in pairs)


@pytest.mark.parametrize("where", ["memory", "shelf"])
@pytest.mark.parametrize("cut", ["tower", "projector"])
def test_what_was_kept_is_what_the_model_computes(
    family: tuple[str, Any, Codec], examples: list[Example], cut: str, where: str, tmp_path: Path
) -> None:
    name, model, codec = family
    tower = tower_of(model) if cut == "tower" else None
    if cut == "tower" and name in INSIDE:
        assert tower is None
        return
    if cut == "tower":
        assert tower is not None
    prompts = [prompt(model, codec, e) for e in (*examples, *examples[1::-1])]
    shown = [p for p in prompts if p.pictures]
    alone = [encoded(model, p) for p in shown]
    ran = next(calls(model))
    kept: Kept = Memory(2**20) if where == "memory" else Shelf(tmp_path, "one")
    features = Features(model, codec.family.features, kept, tower)
    assert same(features(prompts), alone)
    assert ran
    ran.clear()
    assert same(features(prompts), alone)
    assert same(features(prompts[:1]), alone[:1])
    if where == "shelf":
        assert same(Features(model, codec.family.features, Shelf(tmp_path, "one"), tower)(prompts), alone)
    assert not ran
    assert "forward" not in vars(model.get_submodule(outermost(model, "vision_tower")[0]))  # all is as it was


def encoded(model: Any, found: Prompt) -> Any:
    look = model.model.get_image_features
    with torch.no_grad():
        return look(**{n: v for n, v in found.pictures.items() if n in signature(look).parameters})


def test_a_projector_gets_its_gradient_from_what_was_kept(
    family: tuple[str, Any, Codec], examples: list[Example]
) -> None:
    name, model, codec = family
    if name in INSIDE:
        return
    projector = model.get_submodule(outermost(model, "projector")[0])
    projector.requires_grad_(True)
    shown = [prompt(model, codec, e) for e in examples[:2]]
    gradients: list[torch.Tensor] = []
    for features in (
        Features(model, codec.family.features, Memory(0)),
        cut := Features(model, codec.family.features, Memory(2**20), tower_of(model)),
        cut,
    ):
        found = features(shown)
        assert found is not None
        sum((t.float() ** 2).sum() for t in tensors(found.pooler_output)).backward()  # type: ignore[union-attr]
        gradients.append(torch.cat([p.grad.flatten() for p in projector.parameters()]))
        projector.zero_grad()
    plain, *others = gradients
    assert plain.norm() > 0
    assert all((other - plain).norm() <= 1e-5 * plain.norm() for other in others)


def test_what_is_trained_is_never_kept(family: tuple[str, Any, Codec], examples: list[Example]) -> None:
    _, model, codec = family
    shown = [prompt(model, codec, examples[0])]
    features = Features(model, codec.family.features, memory := Memory(2**20))
    features(shown)
    assert len(memory) == 1
    model.requires_grad_(True)
    trained = Features(model, codec.family.features, memory := Memory(2**20))
    assert trained(shown).pooler_output[0].requires_grad  # type: ignore[union-attr]
    assert len(memory) == 0


def test_dropout_in_a_tower_is_found() -> None:
    model, _ = tiny.FAMILIES["llava"]()
    assert not varies(model)
    model.model.language_model.layers[0].self_attn.attention_dropout = 0.5
    assert not varies(model)
    layer = model.get_submodule("model.vision_tower").encoder.layers[0]
    for harm in ({"dropout": 0.1}, {"drop_prob": 0.1}):
        vars(layer).update(harm)
        assert varies(model)
        for key in harm:
            delattr(layer, key)
    layer.mlp.extra = torch.nn.Dropout(0.1)
    assert varies(model)
