"""LLaVA's own format: the weights of a model under its names give the model's logits, adapters put in or not."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, CLIPVisionModel, LlavaForConditionalGeneration

from tests.data.files import png
from tests.models import tiny
from vlmend.config import ModelConfig
from vlmend.errors import ModelError, StoreError
from vlmend.models import load as loading
from vlmend.models.codec import Codec
from vlmend.models.original import convert
from vlmend.types import Example, Image, Message

IDS = torch.tensor([[1, 5, 9, 7, 6]])


def original(top: Path, model: Any, processor: Any, *, tower_inside: bool = False, suffix: str = "bin") -> Path:
    """The model under LLaVA's names, without the tokens that transformers' LLaVA adds; its tower beside it."""
    tower, folder = top / "clip", top / "llava-v1.5-tiny"
    folder.mkdir()
    vision = CLIPVisionModel(model.config.vision_config)
    vision.load_state_dict(model.model.vision_tower.state_dict())
    vision.save_pretrained(tower)
    processor.image_processor.save_pretrained(tower)
    text = {k: v for k, v in model.config.text_config.to_dict().items() if k not in ("model_type", "architectures")}
    config = {
        **text, "model_type": "llava_llama", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": str(tower),
        "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
        "mm_use_im_start_end": False, "image_aspect_ratio": "pad",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    processor.tokenizer.save_pretrained(folder)
    torch.save(named(model, tower_inside), folder / f"pytorch_model-00001-of-00001.{suffix}")
    return folder


def named(model: Any, tower_inside: bool = False) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.clone()
        if "vision_tower" in name:
            if tower_inside:
                inner = name.removeprefix("model.vision_tower.").removeprefix("vision_model.")
                found[f"model.vision_tower.vision_tower.vision_model.{inner}"] = value
            continue
        name = name.replace("model.multi_modal_projector.linear_1", "model.mm_projector.0")
        name = name.replace("model.multi_modal_projector.linear_2", "model.mm_projector.2")
        found[name.replace("model.language_model.", "model.")] = value
    return found


@pytest.fixture
def llava() -> tuple[Any, Any]:
    return tiny.llava_v15()


def logits(model: Any, processor: Any) -> torch.Tensor:
    """With a picture and without."""
    codec = Codec(processor, model.config, model.generation_config)
    example = Example("e", (Message("user", (Image(make=png), "What is it?")),))
    inputs = codec.encode_prompts([example]).inputs
    with torch.no_grad():
        return torch.cat([model(**inputs).logits[0], model(input_ids=IDS).logits[0]])


def converted(folder: Path) -> tuple[Any, Any]:
    return LlavaForConditionalGeneration.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


@pytest.mark.parametrize("inside", [False, True])
def test_a_whole_model_has_the_same_logits(llava: tuple[Any, Any], inside: bool, tmp_path: Path) -> None:
    model, processor = llava
    before = logits(model.eval(), processor)
    folder = original(tmp_path, model, processor, tower_inside=inside)
    if inside:  # the tower beside it is another one then
        other = CLIPVisionModel(model.config.vision_config)
        other.save_pretrained(tmp_path / "clip")
    convert(folder, tmp_path / "out")
    after = logits(*converted(tmp_path / "out"))
    size = min(before.shape[1], after.shape[1])
    assert torch.allclose(before[:, :size], after[:, :size], atol=1e-5)
    assert not (after[:, size:].max() > after[:, :size].max(dim=1).values).any() if after.shape[1] > size else True


def test_what_was_converted_is_taken_for_llava_1_5(llava: tuple[Any, Any], tmp_path: Path) -> None:
    convert(original(tmp_path, *llava), tmp_path / "out")
    loaded = loading.load(ModelConfig(name=str(tmp_path / "out"), device="cpu"))
    assert "A chat between a curious user" in str(loaded.codec.processor.chat_template)


def test_an_adapter_is_put_into_its_base(llava: tuple[Any, Any], tmp_path: Path) -> None:
    """W + (alpha / r) B A, and the projector that was trained beside it, under the names that peft gives."""
    model, processor = llava
    base = original(tmp_path, model, processor)
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "config.json").write_text((base / "config.json").read_text())
    settings = {"base_model_name_or_path": str(base), "r": 2, "lora_alpha": 6, "peft_type": "LORA"}
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    target = model.model.language_model.layers[0].self_attn.q_proj.weight
    low, high = torch.randn(2, target.shape[1]), torch.randn(target.shape[0], 2)
    inner = "base_model.model.model.layers.0.self_attn.q_proj"
    torch.save({f"{inner}.lora_A.weight": low, f"{inner}.lora_B.weight": high}, lora / "adapter_model.bin")
    projector = model.model.multi_modal_projector.linear_1
    bias = torch.randn_like(projector.bias)
    torch.save({"base_model.model.model.mm_projector.0.bias": bias}, lora / "non_lora_trainables.bin")
    convert(lora, tmp_path / "out")
    with torch.no_grad():
        target += 3 * high @ low
        projector.bias.copy_(bias)
    before, after = logits(model.eval(), processor), logits(*converted(tmp_path / "out"))
    size = min(before.shape[1], after.shape[1])
    assert torch.allclose(before[:, :size], after[:, :size], atol=1e-4)


class Shout:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("ran code from a checkpoint",))


def test_nothing_but_weights_is_unpickled(
    llava: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = original(tmp_path, *llava)
    torch.save({"x": Shout()}, folder / "pytorch_model-00001-of-00001.bin", pickle_module=pickle)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        convert(folder, tmp_path / "out")
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mm_projector_type": "linear"}, "projector of type 'linear'"),
        ({"mm_use_im_start_end": True}, "marks around pictures"),
        ({"model_type": "llama"}, "no checkpoint in LLaVA's own format"),
        ({"mm_vision_tower": "./nowhere"}, "nowhere"),
        ({"num_hidden_layers": 1}, "does not become transformers' LLaVA"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    llava: tuple[Any, Any], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = original(tmp_path, *llava)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=says) as caught:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_loading_one_says_how_to_convert_it_and_a_full_folder_is_refused(
    llava: tuple[Any, Any], tmp_path: Path
) -> None:
    folder = original(tmp_path, *llava)
    with pytest.raises(ModelError, match="LLaVA's own format; `vlmend convert"):
        loading.load(ModelConfig(name=str(folder)))
    with pytest.raises(StoreError, match="is not empty"):
        convert(folder, folder)
