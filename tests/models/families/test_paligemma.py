"""PaliGemma: the published layout, with and without pictures in one batch, and answers that the prompt cannot see."""

from __future__ import annotations

import dataclasses

import torch

from tests.models import tiny
from vlmend.models.codec import Codec
from vlmend.types import Example


def test_the_layout_is_pictures_then_one_line_then_the_answer(examples: list[Example]) -> None:
    model, processor = tiny.paligemma()
    codec = Codec(processor, model.config, model.generation_config)
    batch = codec.encode_training(examples[:3])
    texts = [
        codec.tokenizer.decode(row[row != codec.pad_id]).replace("<image>" * 9, "[9]")
        for row in batch.inputs["input_ids"]
    ]
    assert texts == [
        "[9]<s>What is it?\nA ring.<eos>",
        "[9][9]<s>First then differ how?\nIn colour, I think.<eos>",
        "<s>Say something without a picture.\nSomething.<eos>",
    ]


def test_no_token_of_the_prompt_sees_the_answer(examples: list[Example]) -> None:
    model, processor = tiny.paligemma()
    codec = Codec(processor, model.config, model.generation_config)
    twins = [dataclasses.replace(examples[0], answers=(answer,)) for answer in ("A ring.", "A disc.")]
    batches = [codec.encode_training([twin]) for twin in twins]
    length = codec.encode_prompts([examples[0]]).labels.shape[1]
    with torch.no_grad():
        one, two = (model(**batch.inputs).logits[0] for batch in batches)
    torch.testing.assert_close(one[:length], two[:length])
    assert not torch.allclose(one[length + 4 :], two[length + 4 :])
    assert batches[0].inputs["token_type_ids"][0].tolist() == [0] * length + [1] * (len(one) - length)
