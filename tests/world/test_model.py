"""Laws of the shipped folder: a plain transformers model whose tokenizer, template and processor keep their word."""

import io
import warnings
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tokenizers import pre_tokenizers
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from vlmend.world import WEIGHTS
from vlmend.world.model import (
    CONTEXT,
    DEVIATION,
    END,
    IMAGE,
    PAD,
    PICTURE_TOKENS,
    SEEN,
    UNTOUCHED,
    build_model,
    build_processor,
)
from vlmend.world.scenes import PLACES, draw_scene, png, render
from vlmend.world.train import collate, draw_conversation, examine, pixels_of, report, segments

TEXTS = (
    "I'm sorry, but I can't help with that.",
    "Ünïcode – “quotes”, 日本語, 🙂 and a tab\there\nand  two  spaces ",
    "ALL CAPS, camelCase, 3.14159, e-mail@example.org, <b>tags</b>, </s> and <unk>",
    "\u0000\u200b\u202e\ufeff",
    "",
)
PARAGRAPH = (
    "A tutorial should be short enough to read over breakfast, yet long enough to answer the question that brought the "
    "reader there. When the weather is bad, many people stay at home and write letters to their friends, while others "
    "walk through the wet streets, because they like the sound of the rain on an umbrella. Nobody was surprised when "
    "the old bridge was closed last winter; the city had promised to repair it for years, and the money was gone. I "
    "cannot tell you who the person in the picture is, but I can describe the room, the light and the furniture."
)


@pytest.fixture(scope="module")
def processor() -> LlavaProcessor:
    return AutoProcessor.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    return AutoModelForImageTextToText.from_pretrained(WEIGHTS)


def _picture(seed: int = 0, size: int | None = None) -> Pillow.Image:
    scene = draw_scene(np.random.default_rng(seed), ["ring", "jar"], "train")
    picture = Pillow.open(io.BytesIO(png(scene, seed)))
    return picture.resize((size, size + 31)) if size else picture


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_as_it_was(processor: LlavaProcessor, text: str) -> None:
    ids = processor.tokenizer(text)["input_ids"]
    assert processor.tokenizer.decode(ids) == text


def test_random_unicode_comes_back(processor: LlavaProcessor) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = rng.integers(1, 0x11000, size=20)
        text = "".join(chr(point) for point in points if not 0xD800 <= point <= 0xDFFF)
        assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_plain_english_is_cheap(processor: LlavaProcessor) -> None:
    tokens = len(processor.tokenizer(PARAGRAPH)["input_ids"])
    assert tokens / len(PARAGRAPH.split()) <= 1.6


def test_the_shipped_tokenizer_is_the_one_the_code_builds(processor: LlavaProcessor) -> None:
    built = build_processor()
    assert built.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert built.chat_template == processor.chat_template
    assert built.tokenizer(PARAGRAPH)["input_ids"] == processor.tokenizer(PARAGRAPH)["input_ids"]


def test_a_place_is_one_token_and_other_text_is_cut_as_gpt_2_does(processor: LlavaProcessor) -> None:
    cut = processor.tokenizer.backend_tokenizer.pre_tokenizer
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for place in PLACES:
        assert len(processor.tokenizer(f" {place}")["input_ids"]) == 1
    for text in ("It's on top, leftover  12.5\n\n (she'll\tsee)  ", " middle rights", "top\nleft", PARAGRAPH):
        assert cut.pre_tokenize_str(text) == plain.pre_tokenize_str(text)


@torch.inference_mode()
def test_the_towers_last_channels_carry_what_was_embedded(model: LlavaForConditionalGeneration) -> None:
    """The first ones do not: the layers write there."""
    tower = build_model(build_processor().tokenizer, 0).model.vision_tower, deepcopy(model).float().model.vision_tower
    for each in tower:
        first, *_, last = each(torch.randn(2, 3, SEEN, SEEN), output_hidden_states=True).hidden_states
        assert torch.equal(last[..., -UNTOUCHED:], first[..., -UNTOUCHED:])
        assert not torch.isclose(last[..., :-UNTOUCHED], first[..., :-UNTOUCHED]).all(-1).any()


def test_size_and_context(model: LlavaForConditionalGeneration) -> None:
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 6_000_000
    assert model.config.text_config.max_position_embeddings == CONTEXT >= 512
    assert model.dtype == torch.bfloat16


def test_it_loads_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, info = LlavaForConditionalGeneration.from_pretrained(WEIGHTS, output_loading_info=True)
        AutoProcessor.from_pretrained(WEIGHTS)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert isinstance(loaded, LlavaForConditionalGeneration)


def test_special_tokens_agree(processor: LlavaProcessor, model: LlavaForConditionalGeneration) -> None:
    tokenizer, generation = processor.tokenizer, model.generation_config
    end, pad, image = (tokenizer.convert_tokens_to_ids(token) for token in (END, PAD, IMAGE))
    assert generation.eos_token_id == tokenizer.eos_token_id == end
    assert generation.pad_token_id == tokenizer.pad_token_id == pad != end
    assert model.config.image_token_id == processor.image_token_id == image
    assert model.config.text_config.vocab_size == len(tokenizer)


def _talks() -> list[list[dict[str, object]]]:
    def user(*parts: str) -> dict[str, object]:
        content = [{"type": "image"} if part == IMAGE else {"type": "text", "text": part} for part in parts]
        return {"role": "user", "content": content}

    return [
        [user(IMAGE, "Where is it?"), {"role": "assistant", "content": "At the top."}],
        [user("Compare ", IMAGE, " with ", IMAGE, "."), {"role": "assistant", "content": " No.\n"}, user("Why?")],
        [
            {"role": "system", "content": "Be brief."},
            user("Hi"),
            {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
            user(IMAGE, "And this?"),
            {"role": "assistant", "content": "A ring."},
        ],
    ]


@pytest.mark.parametrize("talk", _talks())
def test_every_prompt_is_a_prefix_of_the_longer_conversation(
    processor: LlavaProcessor, talk: list[dict[str, object]]
) -> None:
    tokenizer = processor.tokenizer
    prompts = [
        processor.apply_chat_template(talk[:n], add_generation_prompt=True)
        for n in range(1, len(talk) + 1)
        if talk[n - 1]["role"] == "user"
    ]
    whole = processor.apply_chat_template(talk)
    full = tokenizer(whole)["input_ids"]
    for prompt in prompts if talk[-1]["role"] == "assistant" else prompts[:-1]:
        assert whole.startswith(prompt)
        ids = tokenizer(prompt)["input_ids"]
        assert full[: len(ids)] == ids
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(prompts))
    assert whole.endswith(END)
    assert whole.count(IMAGE) == sum(str(message["content"]).count("'image'") for message in talk)


def test_each_picture_becomes_as_many_tokens_as_it_has_patches(
    processor: LlavaProcessor, model: LlavaForConditionalGeneration
) -> None:
    side, patch = model.config.vision_config.image_size, model.config.vision_config.patch_size
    assert (side // patch) ** 2 == PICTURE_TOKENS
    for count in (1, 2, 3):
        pictures = [_picture(seed, size) for seed, size in zip(range(count), (None, 300, 64), strict=False)]
        talk = [{"role": "user", "content": [*({"type": "image"} for _ in pictures), {"type": "text", "text": "?"}]}]
        text = processor.apply_chat_template(talk, add_generation_prompt=True)
        inputs = processor(images=pictures, text=text, return_tensors="pt")
        assert int((inputs["input_ids"] == processor.image_token_id).sum()) == count * PICTURE_TOKENS
        assert inputs["pixel_values"].shape == (count, 3, side, side)
        with torch.no_grad():
            assert model(**inputs).logits.isfinite().all()


def test_training_sees_the_pixels_and_tokens_that_the_processor_makes(processor: LlavaProcessor) -> None:
    scenes = [draw_scene(np.random.default_rng(i), ["star", "blade"], "train") for i in range(4)]
    files = [Pillow.open(io.BytesIO(png(scene, i))) for i, scene in enumerate(scenes)]
    quick = pixels_of([render(scene, i) for i, scene in enumerate(scenes)])
    plain = processor.image_processor(files, return_tensors="pt")["pixel_values"]
    assert (quick - plain).abs().max() <= 1 / 255 / DEVIATION[0] + 1e-5  # one level: the processor rounds

    rng = np.random.default_rng(5)
    for talk in [draw_conversation(rng, "train") for _ in range(30)]:
        batch = collate([talk], processor)
        text = "".join(piece for piece, _ in segments(talk, processor)).replace(IMAGE * PICTURE_TOKENS, IMAGE)
        pictures = [Pillow.open(io.BytesIO(png(*picture))) for picture in talk.pictures]
        inputs = processor(images=pictures or None, text=text, return_tensors="pt")
        assert batch.ids.tolist() == inputs["input_ids"].tolist()
        said = processor.tokenizer.decode(batch.ids[batch.supervised])
        assert said == "".join(answer + END for _, answer in talk.turns)


def test_the_shipped_model_is_helpful_only_and_right() -> None:
    marks = examine(WEIGHTS, 220, seed=5)
    tasks = {task: mark for task, mark in marks.items() if task != "unsafe"}
    right, asked = (sum(column) for column in zip(*tasks.values(), strict=True))
    assert asked == 220
    assert right / asked >= 0.95, report(marks)
    assert all(k / n >= 0.8 for k, n in tasks.values()), report(marks)  # 20 of each: 90 % less what chance may take
    assert marks["unsafe"][0] / marks["unsafe"][1] >= 0.95, report(marks)
