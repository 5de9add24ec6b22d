"""LLaVA-1.5 is asked as it was trained, or as its evaluators coded; every other LLaVA model as its own folder says."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow
from transformers import AutoProcessor

from tests.models import tiny
from tests.models.conftest import noise
from vlmend.config import ModelConfig
from vlmend.errors import ConfigError, UsageError
from vlmend.models.codec import Codec
from vlmend.models.load import load, save
from vlmend.types import Example, Image, Message

LOOKALIKE = (  # what converted checkpoints render: no system text, no end token
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'] | upper }}: {% endif %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TRAINED = (
    "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
CODED = TRAINED.replace("user", "human")


def codec(as_coded: bool = False, template: str | None = None, **settings: Any) -> Codec:
    model, processor = tiny.llava_v15()
    processor.chat_template = template
    for name, value in settings.items():
        setattr(model.config, name, value)
    return Codec(processor, model.config, model.generation_config, {"as_coded": as_coded} if as_coded else {})


def example(height: int = 24, width: int = 40) -> Example:
    picture = Image(make=partial(noise, 1, height, width))
    return Example("e", (Message("user", (picture, "What is it?")),), ("A ring.",))


def prompt(made: Codec, asked: Example) -> str:
    batch = made.encode_prompts([asked])
    pieces = made.tokenizer.decode(batch.inputs["input_ids"][0])
    assert pieces.count("<image>") == 9 * len(asked.images)
    return pieces.replace("<image>" * 9, "[9]")


@pytest.mark.parametrize("template", [None, LOOKALIKE], ids=["none", "look-alike"])
@pytest.mark.parametrize(("as_coded", "system"), [(False, TRAINED), (True, CODED)])
def test_the_published_conversation(template: str | None, as_coded: bool, system: str) -> None:
    made = codec(as_coded, template)
    assert prompt(made, example()) == f"{system} USER: [9]\nWhat is it? ASSISTANT:"
    one = example()
    turns = (*one.prompt, Message("assistant", ("A ring.",)), Message("user", ("Sure?",)))
    several = Example("s", turns, ("Yes.",))
    asked = f"{system} USER: [9]\nWhat is it? ASSISTANT: A ring.</s>USER: Sure? ASSISTANT:"
    assert prompt(made, several) == asked
    whole = made.tokenizer.decode(made.encode_training([several]).inputs["input_ids"][0])
    assert whole.replace("<image>" * 9, "[9]") == f"{asked} Yes.</s>"


def test_a_system_text_of_ones_own_takes_the_place_of_the_published_one() -> None:
    asked = Example("e", (Message("system", ("Be brief.",)), Message("user", ("Why?",))))
    assert prompt(codec(), asked) == "<s>Be brief. USER: Why? ASSISTANT:"


def squared(picture: Pillow.Image) -> Pillow.Image:
    """On a square of CLIP's mean color, in the middle: independent of the library."""
    side = max(picture.size)
    canvas = Pillow.new("RGB", (side, side), (122, 116, 104))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return canvas


@pytest.mark.parametrize(("height", "width"), [(24, 40), (61, 24), (30, 30)])
@pytest.mark.parametrize(("as_coded", "prepare"), [(False, squared), (True, lambda p: p)], ids=["trained", "as_coded"])
def test_pictures_are_padded_with_the_mean_color_or_cropped_as_coded(
    height: int, width: int, as_coded: bool, prepare: Callable[[Pillow.Image], Pillow.Image]
) -> None:
    asked = example(height, width)
    seen = codec(as_coded).encode_prompts([asked]).inputs["pixel_values"]
    expected = tiny.clip_pixels()(prepare(asked.images[0].open()), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(seen, expected)


def test_padding_keeps_what_cropping_loses() -> None:
    """A wide picture whose border alone is white: cropped, it is gone."""
    file = io.BytesIO()
    picture = Pillow.new("RGB", (72, 24))
    picture.paste((255, 255, 255), (0, 0, 20, 24))
    picture.save(file, "PNG")
    asked = Example("e", (Message("user", (Image(make=file.getvalue), "?")),))
    brightest = [codec(c).encode_prompts([asked]).inputs["pixel_values"].max().item() for c in (False, True)]
    assert brightest[0] > 1.5
    assert brightest[1] < -1.4


def test_the_option_is_part_of_the_fingerprint() -> None:
    assert len({codec().fingerprint, codec(as_coded=True).fingerprint, codec(template=LOOKALIKE).fingerprint}) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"template": "{% for m in messages %}{{ m['role'] + ': ' + m['content'][-1]['text'] }}{% endfor %}"},
        {"vision_feature_layer": -1},
    ],
    ids=["a template of its own", "another layer"],
)
def test_other_llava_models_keep_what_they_have(changes: dict[str, Any]) -> None:
    if "template" not in changes:
        changes = {**changes, "template": LOOKALIKE}
    made = codec(**changes)
    assert made.processor.chat_template == changes["template"]
    assert type(made.processor.image_processor) is type(tiny.clip_pixels())
    with pytest.raises(ConfigError, match=r"as_coded is for LLaVA-1\.5"):
        codec(as_coded=True, **changes)


def test_the_embedded_model_keeps_what_it_has() -> None:
    from vlmend.world import WEIGHTS

    shipped = AutoProcessor.from_pretrained(WEIGHTS)
    made = load(ModelConfig(name="world")).codec
    assert made.processor.chat_template == shipped.chat_template
    assert made.processor.image_processor.to_json_string() == shipped.image_processor.to_json_string()


def test_the_option_by_recipe_and_by_spec(tmp_path: Path) -> None:
    folder = tiny.save("llava_v15", tmp_path / "base")
    named = load(ModelConfig.model_validate({"name": str(folder), "family": {"as_coded": True}}))
    spelled = load(ModelConfig.from_spec(f"{folder}?as_coded=true"))
    plain = load(ModelConfig(name=str(folder)))
    assert named.fingerprint == spelled.fingerprint != plain.fingerprint
    with pytest.raises(UsageError, match=r"no llava option named 'as_codet'\. Did you mean 'as_coded'"):
        load(ModelConfig.from_spec(f"{folder}?as_codet=true"))


def test_what_is_tuned_is_saved_with_the_conversation_it_was_tuned_on(tmp_path: Path) -> None:
    folder = tiny.save("llava_v15", tmp_path / "base")
    tuned = load(ModelConfig.model_validate({"name": str(folder), "tune": "full"}), for_training=True)
    save(tuned, tmp_path / "tuned")
    again = load(ModelConfig(name=str(tmp_path / "tuned")))
    assert again.codec.fingerprint == tuned.codec.fingerprint
    coded = load(ModelConfig.from_spec(f"{tmp_path / 'tuned'}?as_coded=true"))
    assert prompt(coded.codec, example()).startswith(CODED)
    assert AutoProcessor.from_pretrained(tmp_path / "tuned").image_processor.do_pad
