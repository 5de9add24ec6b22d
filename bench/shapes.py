"""LLaVA-1.5's architecture at several sizes, weights random, with a real processor; nothing is downloaded.

What is saved by an idea depends on proportions, so thin models keep those of 7B: there the head is 2 % of the language
model's weights (32,064 x 4,096 of 6.7e9) and the tower 4.5 %. With a vocabulary of 4,000 the head of a model 384 wide
and 3 deep would be 22 %, and logits that nobody needs would cost far more than they do in earnest; hence 288 words.
Two proportions cannot be kept. Attention's share of the work grows as tokens / (6 x width): 3 % at 7B, 30 % at 384,
70 % at 160. And activations, which grow with the width, outweigh weights, which grow with its square: hence `wide` with
fewer tokens per picture, on which alone memory is to be compared on a CPU.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vlmend.models.families.llava import SYSTEM, TRAINED
from vlmend.models.family import family_for

PATCH = 14
SPECIALS = ("<pad>", "<s>", "</s>", "<image>", "<unk>")
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ ' ' if message['role'] == 'user' else '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
WORDS = tuple(a + b for a in "bdfghjklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "en", "in", "on", "un"))


@dataclass(frozen=True)
class Tower:
    """The part that sees."""

    hidden: int
    inner: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Shape:
    """A language model and its tower; `lora` is the rank of the adapters, a 32nd of the width as at 7B."""

    hidden: int
    inner: int
    layers: int
    heads: int
    tower: Tower
    vocabulary: int = 512
    pixels: int = 336
    lora: int = 8
    rate: float = 1e-4

    @property
    def picture_tokens(self) -> int:
        """Tokens of a picture."""
        return (self.pixels // PATCH) ** 2

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices in all of the language model's layers."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.inner)

    @property
    def lora_weights(self) -> int:
        """Weights of the adapters on them."""
        return self.layers * self.lora * (4 * 2 * self.hidden + 3 * (self.hidden + self.inner))

    @property
    def tower_weights(self) -> int:
        """Weights of the matrices in the tower's layers."""
        return self.tower.layers * (4 * self.tower.hidden**2 + 2 * self.tower.hidden * self.tower.inner)


SIZES = {
    "tiny": Shape(64, 176, 2, 2, Tower(32, 64, 2, 2), pixels=56, lora=4),
    "small": Shape(384, 1032, 3, 3, Tower(96, 384, 2, 3), vocabulary=288, lora=12),
    "wide": Shape(1536, 4128, 4, 12, Tower(256, 1024, 4, 4), vocabulary=1536, pixels=154, lora=48),
    "7b": Shape(4096, 11008, 32, 32, Tower(1024, 4096, 24, 16), vocabulary=32064, lora=128, rate=1.1e-5),
}
DEEP = {  # as many layers as at 7B, for what depends on their number
    "tiny": replace(SIZES["tiny"], layers=10),
    "small": Shape(160, 432, 32, 4, Tower(64, 256, 3, 2), vocabulary=1228, lora=5),
    "wide": Shape(384, 1032, 32, 3, Tower(128, 512, 3, 4), vocabulary=2048, pixels=154, lora=12),
    "7b": SIZES["7b"],
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each of a few invented words and those of LLaVA-1.5's conversations."""
    spoken = SYSTEM.format(who=TRAINED).split()
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*SPECIALS, *spoken, "USER:", "ASSISTANT:", *WORDS)))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def processor(pixels: int, words: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Square pictures in patches of 14 pixels, and the form of LLaVA-1.5's conversations."""
    images = CLIPImageProcessor(size={"shortest_edge": pixels}, crop_size={"height": pixels, "width": pixels})
    return LlavaProcessor(
        images, words, patch_size=PATCH, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )  # fmt: skip


def model(shape: Shape, device: str, words: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Random weights, made on the device: fp32 on a CPU, else bf16."""
    tower = shape.tower
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=tower.hidden, intermediate_size=tower.inner, num_hidden_layers=tower.layers,
            num_attention_heads=tower.heads, image_size=shape.pixels, patch_size=PATCH,
        ).to_dict(),
        text_config=LlamaConfig(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
            max_position_embeddings=4096,
        ).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"), vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    with torch.device(device):
        made = LlavaForConditionalGeneration(config).eval()
    torch.set_default_dtype(torch.float32)
    return made


def save(shape: Shape, folder: Path, device: str) -> Path:
    """The model and its processor as a transformers folder, conversation and pictures as LLaVA-1.5 was trained on.

    Made once, whole or not at all.
    """
    if not folder.exists():
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        words = tokenizer()
        made: Any = model(shape, device, words)
        made.generation_config.eos_token_id = words.eos_token_id
        made.generation_config.pad_token_id = words.pad_token_id
        made.save_pretrained(part)
        family_for("llava").adapt(processor(shape.pixels, words), made.config).save_pretrained(part)
        part.rename(folder)
        del made
        if device != "cpu":
            torch.cuda.empty_cache()
    return folder
