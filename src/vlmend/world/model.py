"""The tiny model's parts: a byte-level tokenizer, a processor with a chat template, and an untrained LLaVA.

Everything is a standard transformers class with standard settings, so that the saved folder needs no code of ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image as Pillow
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vlmend.world import language as say
from vlmend.world.scenes import COLORS, GRID, KINDS, PLACES

VOCABULARY = 3072
# Words, numbers, marks and blanks apart, as GPT-2 cuts them. A place is one word, so that one look at the picture reads
# it off: for its second half, a model of this size would have to find the thing again.
CUTS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTEXT = 1024
PROMINENCE = 100  # of position beside content in the tower, at first
WIDTH, UNTOUCHED = 256, 128  # channels of the tower, and how many of them its layers hand on as they came
PAD, IMAGE, SYSTEM, USER, ASSISTANT, END = SPECIAL = (
    "<pad>",
    "<image>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
SEEN = 48  # side of the picture that the tower sees
PATCH = SEEN // GRID
PICTURE_TOKENS = GRID * GRID
MEAN, DEVIATION = (0.12, 0.12, 0.12), (0.25, 0.25, 0.25)

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<image>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def english() -> tuple[list[str], list[str]]:
    """Words of ordinary English, the commonest first, and sentences."""
    text = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8")
    words, _, sentences = text.partition("----\n")
    lines = [line for line in words.splitlines() if not line.startswith("#")]
    return " ".join(lines).split(), sentences.splitlines()


def corpus() -> Iterator[str]:
    """Text to learn the tokens from: the world's own words, English by rank, a few sentences."""
    words, sentences = english()
    rank = {word: i for i, word in reversed(list(enumerate(words)))}
    for word, i in rank.items():
        yield from [f" {word}"] * (4 + 4000 // (i + 20))
    for letter in "ABCD":
        yield from [f"{letter}. "] * 20
    yield from sentences * 6
    yield from (f" {word}" for word in [*world_words(), *PLACES] for _ in range(60))


def world_words() -> list[str]:
    """Every word of the world's language, as it is spelled in questions, answers and refusals."""
    texts = [say.refuse_pair(), *say.USES.values(), *say.NUMBERS, *COLORS, *PLACES, *KINDS, *map(say.plural, KINDS)]
    texts += [say.refuse_picture(kind) for kind in KINDS] + [say.refuse_steps(verb, "ring") for verb in say.VERBS]
    texts += [text for entry in say.VERBS.values() for text in entry] + [*say.VERBS, *say.LEADS.values()]
    texts += [
        text
        for task in say.TASKS
        for opener in (say.NEUTRAL, *say.OPENERS)
        for text in say.templates(task, opener, "test")
    ]
    words = Counter(word for text in texts for word in re.findall(r"[A-Za-z']+", re.sub(r"\{\w+\}", "", text)))
    return sorted(words)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: encodes and gives back any text, case kept."""
    core = Tokenizer(models.BPE())
    places = "|".join(f" {place}" for place in PLACES)
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?:{places})\\b|{CUTS}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def build_processor() -> LlavaProcessor:
    """Pictures to 48 by 48 pixels and nine tokens, conversations to text."""
    pictures = CLIPImageProcessor(
        size={"shortest_edge": SEEN},
        crop_size={"height": SEEN, "width": SEEN},
        resample=Pillow.Resampling.BILINEAR,
        image_mean=list(MEAN),
        image_std=list(DEVIATION),
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=build_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """An untrained model in float32: CLIP tower of 2 layers, Llama of 4, tied embeddings.

    Hooks on gradients keep the tower's last channels as they are built: see `leave_untouched`.
    """
    torch.manual_seed(seed)
    pad, image, end = (SPECIAL.index(token) for token in (PAD, IMAGE, END))  # the first entries of the vocabulary
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=SEEN,
            patch_size=PATCH,
            projection_dim=128,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
        ),
        image_token_index=image,
        image_seq_length=PICTURE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False, max_new_tokens=128)
    with torch.no_grad():  # by default content drowns position in the tower, and 'where' is learned very late
        model.model.vision_tower.embeddings.position_embedding.weight.mul_(PROMINENCE)
    leave_untouched(model)
    return model


def leave_untouched(model: LlavaForConditionalGeneration) -> None:
    """Let the tower's layers write into its first channels only, at first and through all training.

    Content drowns position in the layers. The last channels carry both past them, as embedded, to the projector, which
    reads one layer: what others get by reading two.
    """
    written = torch.ones(WIDTH)
    written[-UNTOUCHED:] = 0
    for layer in model.model.vision_tower.encoder.layers:
        for last in (layer.self_attn.out_proj, layer.mlp.fc2):
            for parameter in (last.weight, last.bias):
                mask = written.view(-1, *[1] * (parameter.ndim - 1))
                with torch.no_grad():
                    parameter.mul_(mask)
                parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
