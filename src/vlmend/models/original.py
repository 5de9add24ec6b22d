"""Checkpoints in LLaVA's own format as transformers' LLaVA: whole models (`llava_llama`) and LoRA folders of them.

That format has a Llama with `model.mm_projector` in it, and names its vision tower (`mm_vision_tower`), which it seldom
holds. A LoRA folder has `adapter_model` and `non_lora_trainables.bin`, which is the projector, and its base elsewhere.
Nothing but weights is read from `.bin` files, whatever else is pickled there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from vlmend.errors import ModelError
from vlmend.models.folder import refuse_full, write_whole
from vlmend.models.places import locate

KINDS = ("llava_llama", "llava")  # what LLaVA's own code has called its models
PROJECTOR = {"model.mm_projector.0.": "linear_1.", "model.mm_projector.2.": "linear_2."}
TOWER = "model.vision_tower.vision_tower."
SELECTS = {"patch": "default", "cls_patch": "full"}
IMAGE, PAD = "<image>", "<pad>"
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
BESIDE = "non_lora_trainables.bin"
SKIPPED = ("model_type", "architectures", "transformers_version", "auto_map", "torch_dtype", "dtype")


@dataclass(frozen=True)
class Original:
    """A checkpoint in LLaVA's own format: its configuration, the weights of its language model and projector by their
    names there, and where its tokenizer lies.
    """

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    words: str


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of LLaVA's own code."""
    return config.get("model_type") in KINDS and "mm_vision_tower" in config


def convert(folder: Path, out: Path, base: str = "", tower: str = "") -> dict[str, Any]:
    """Write the checkpoint in `folder` as transformers' LLaVA, processor included. Returns the manifest.

    `base` and `tower` stand in for the base model and the vision tower that the checkpoint names. The vocabulary gets
    `<image>` and `<pad>`, whose embeddings and whose rows of the head are the mean of all others: such a token is never
    the likeliest. Raises ModelError for what is not of this format, StoreError where `out` holds something.
    """
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    refuse_full(out)
    found = read(folder, base)
    vision, pixels = _tower(found, tower)
    words = _words(found)
    config = _config(found.config, vision.config, words)
    state = _renamed(found.weights, len(words))
    state |= {f"model.vision_tower.{name}": value for name, value in vision.state_dict().items()}
    dtype = state["lm_head.weight"].dtype
    made: Any = LlavaForConditionalGeneration
    model, told = made.from_pretrained(None, config=config, state_dict=state, dtype=dtype, output_loading_info=True)
    if wrong := sorted([*told["missing_keys"], *told["unexpected_keys"], *map(str, told["mismatched_keys"])]):
        raise ModelError(
            f"{folder} does not become transformers' LLaVA: {len(wrong)} weights have no place, are not there or are of"
            f" another shape, such as {wrong[0]}"
        )
    model.generation_config.update(
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id
    )
    processor = LlavaProcessor(
        pixels, words, patch_size=vision.config.patch_size, num_additional_image_tokens=1,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
    )  # fmt: skip
    about = {
        "kind": "conversion",
        "from": str(folder),
        "base": base or _named_base(folder),
        "vision_tower": tower or found.config["mm_vision_tower"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    return write_whole(model, processor, out, about)


def read(folder: Path, base: str = "") -> Original:
    """The checkpoint in a folder, an adapter put into its base. Raises ModelError for what is not of this format."""
    config = _json(folder / "config.json")
    if not is_original(config):
        raise ModelError(
            f"{folder} is no checkpoint in LLaVA's own format: config.json has model_type"
            f" {config.get('model_type')!r}{'' if 'mm_vision_tower' in config else ' and no mm_vision_tower'}"
        )
    if (kind := config.get("mm_projector_type", "linear")) != "mlp2x_gelu":
        raise ModelError(f"{folder} has a projector of type {kind!r}; transformers' LLaVA has mlp2x_gelu")
    if config.get("mm_use_im_start_end"):
        raise ModelError(f"{folder} has marks around pictures (mm_use_im_start_end), which transformers' LLaVA has not")
    if not (folder / "adapter_config.json").exists():
        return Original(config, _weights(folder), str(folder))
    place = Path(locate(base or _named_base(folder)))
    if not place.is_dir():
        raise ModelError(f"{folder} is an adapter on {place}, which is no folder here; name its folder with --base")
    weights = _merged(dict(_weights(place)), folder)
    own = next((file for file in ("tokenizer.json", "tokenizer.model") if (folder / file).exists()), "")
    return Original(config, weights, str(folder if own else place))


def _named_base(folder: Path) -> str:
    """The base that an adapter names; empty for a whole model."""
    file = folder / "adapter_config.json"
    return str(_json(file).get("base_model_name_or_path") or "") if file.exists() else ""


def _merged(weights: dict[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
    """W + (alpha / r) B A of every adapted weight, computed in float32, and what was trained beside them."""
    settings = _json(folder / "adapter_config.json")
    if settings.get("use_dora") or settings.get("rank_pattern") or settings.get("alpha_pattern"):
        raise ModelError(f"{folder} is no plain LoRA adapter (use_dora, rank_pattern or alpha_pattern is set)")
    scale = settings["lora_alpha"] / (settings["r"] ** 0.5 if settings.get("use_rslora") else settings["r"])
    file = next((folder / name for name in ADAPTER if (folder / name).exists()), None)
    if file is None:
        raise ModelError(f"{folder} has neither {' nor '.join(ADAPTER)}")
    low = {_inner(name): value for name, value in _load(file).items()}
    for name in [name for name in low if name.endswith("lora_A.weight")]:
        whole, other = name.replace("lora_A.weight", "weight"), name.replace("lora_A", "lora_B")
        if whole not in weights or other not in low:
            raise ModelError(f"{file}: {name} has no {'base weight' if other in low else 'lora_B'} that it goes with")
        change = scale * low[other].float() @ low[name].float()
        weights[whole] = (weights[whole].float() + change).to(weights[whole].dtype)
    dtype = weights["lm_head.weight"].dtype
    beside = _load(folder / BESIDE) if (folder / BESIDE).exists() else {}
    return weights | {_inner(name): value.to(dtype) for name, value in beside.items()}


def _inner(name: str) -> str:
    """The name of a weight without what wrapping a model in an adapter has put before it."""
    plain = name.removeprefix("base_model.")
    return plain.removeprefix("model.") if plain.startswith(("model.model.", "model.lm_head.")) else plain


def _weights(folder: Path) -> Mapping[str, Tensor]:
    """All weights of a folder, from one file or from several."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        files = sorted(folder.glob(pattern))
        if files:
            return {name: value for file in files for name, value in _load(file).items()}
    raise ModelError(f"{folder} has no weights: neither model*.safetensors nor pytorch_model*.bin")


def _load(file: Path) -> dict[str, Tensor]:
    """The weights in a file, and never anything else that is pickled in it."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        held: object = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, UnpicklingError) as error:
        raise ModelError(f"{file} cannot be read as weights: {str(error).strip().splitlines()[0]}") from error
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ModelError(f"{file} holds something else than weights")
    return held


def _json(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(held, dict):
        raise ModelError(f"{file} should hold an object")
    return held


def _tower(found: Original, named: str) -> tuple[Any, Any]:
    """The vision tower, with the checkpoint's own weights where it has some, and how it prepares pictures."""
    from transformers import CLIPImageProcessor, CLIPVisionModel

    place = locate(named or str(found.config["mm_vision_tower"]))
    try:
        vision = CLIPVisionModel.from_pretrained(place)
        pixels = CLIPImageProcessor.from_pretrained(place)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"the vision tower {place} does not load: {str(error).strip().splitlines()[0]}; name its folder with"
            " --vision-tower"
        ) from error
    own = {name.removeprefix(TOWER): value for name, value in found.weights.items() if name.startswith(TOWER)}
    if own:
        known = vision.state_dict()
        plain = {name if name in known else name.removeprefix("vision_model."): value for name, value in own.items()}
        told = vision.load_state_dict(plain, strict=False)
        if told.unexpected_keys or len(told.missing_keys) > 1:  # an index of positions is no weight
            raise ModelError(f"the checkpoint's own vision tower does not fit {place}, such as {min(plain)}")
    return vision, pixels


def _words(found: Original) -> Any:
    """The tokenizer with marks for a picture and for padding."""
    from transformers import AutoTokenizer, LlamaConfig

    try:
        words = AutoTokenizer.from_pretrained(found.words, config=LlamaConfig())
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"the tokenizer in {found.words} does not load: {str(error).strip().splitlines()[0]}"
        ) from error
    words.add_tokens([IMAGE], special_tokens=True)
    words.add_special_tokens({"pad_token": PAD})
    return words


def _config(config: Mapping[str, Any], vision: Any, words: Any) -> Any:
    from transformers import LlamaConfig, LlavaConfig

    text = LlamaConfig.from_dict({k: v for k, v in config.items() if not k.startswith("mm_") and k not in SKIPPED})
    text.vocab_size = len(words)
    made: Any = LlavaConfig
    return made(
        vision_config=vision.to_dict(), text_config=text.to_dict(), image_token_id=words.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=config.get("mm_vision_select_layer", -2), projector_hidden_act="gelu",
        vision_feature_select_strategy=SELECTS[config.get("mm_vision_select_feature", "patch")],
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
    )  # fmt: skip


def _renamed(weights: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Language model and projector by transformers' names, the vocabulary made as long as the tokenizer."""
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        old = next((old for old in PROJECTOR if name.startswith(old)), "")
        if name.startswith(TOWER) or name.endswith("rotary_emb.inv_freq"):
            continue
        if old:
            found[f"model.multi_modal_projector.{PROJECTOR[old]}{name.removeprefix(old)}"] = value
        elif name.startswith("model."):
            found[f"model.language_model.{name.removeprefix('model.')}"] = value
        else:
            found[name] = value
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        if name not in found:
            raise ModelError(f"the checkpoint has no {name.removeprefix('model.language_model.')}")
        rows = found[name]
        if len(rows) > size:  # padded to a round number
            found[name] = rows[:size]
        elif len(rows) < size:
            mean = rows.float().mean(dim=0, keepdim=True).to(rows.dtype)
            found[name] = torch.cat([rows, mean.expand(size - len(rows), -1)])
    return found
