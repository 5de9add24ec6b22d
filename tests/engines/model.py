"""A tiny LLaVA of random weights that vLLM can run: heads wide enough for its attention, weights named as released."""

from __future__ import annotations

from pathlib import Path

import transformers as hf
from safetensors.torch import load_file, save_file

from tests.models import tiny


def save(folder: Path) -> Path:
    """Write it as a transformers folder."""
    words = tiny.tokenizer("<image>")
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**tiny.tower()).to_dict(),
        text_config=hf.LlamaConfig(**tiny.text(words, hidden_size=128, intermediate_size=128, head_dim=32)).to_dict(),
        image_token_index=words.convert_tokens_to_ids("<image>"), vision_feature_layer=-2,
    )  # fmt: skip
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size=tiny.SEEN, crop_size=tiny.SEEN), words, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=tiny.chatml("<image>"),
    )  # fmt: skip
    model = tiny.seeded(hf.LlavaForConditionalGeneration, config, words)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file({_released(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


def _released(name: str) -> str:
    """The name of a weight in released checkpoints, which versions of transformers write differently."""
    name = name.removeprefix("model.")
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    if name.startswith("language_model.") and not name.startswith(("language_model.model.", "language_model.lm_head.")):
        return name.replace("language_model.", "language_model.model.", 1)
    return name
