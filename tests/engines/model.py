"""A tiny LLaVA of random weights that vLLM can run: its attention on a processor wants heads of 32 and more."""

from __future__ import annotations

from pathlib import Path

import transformers as hf

from tests.models import tiny
from vlmend.saving import write_model


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
    write_model(model, folder)
    processor.save_pretrained(folder)
    return folder
