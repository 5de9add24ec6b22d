"""The codec apart from families (see test_families.py): lengths, refusals, templates, identity."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest

from tests.models import tiny
from tests.models.conftest import noise
from vlmend.errors import DataError, ModelError
from vlmend.models.codec import Batch, Codec
from vlmend.ops.logprobs import IGNORE
from vlmend.types import Example, Image, Message

LLAVA, _ = tiny.llava()
SETTINGS = (LLAVA.config, LLAVA.generation_config)


class SilentProcessor:
    """A processor that cannot say how many tokens a picture has."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        if name == "_get_num_multimodal_tokens":
            raise AttributeError(name)
        return getattr(self._processor, name)


@pytest.fixture
def codec() -> Codec:
    model, processor = tiny.llava()
    return Codec(processor, model.config, model.generation_config)


def supervised_text(codec: Codec, batch: Batch, row: int) -> str:
    labels = batch.labels[row]
    return codec.tokenizer.decode(labels[labels != IGNORE])


@pytest.mark.parametrize("text", ["MiXeD case, Ünïcode — 日本 🙂", "line\nbreaks\n\nkept", "  inner   spaces "])
def test_text_survives_untouched(codec: Codec, examples: list[Example], text: str) -> None:
    example = dataclasses.replace(examples[2], answers=(text,))
    labels = codec.encode_training([example]).labels[0]
    assert codec.decode(labels[labels != IGNORE].tolist()) == text.strip()


def test_too_long_is_an_error_that_names_the_example(codec: Codec, examples: list[Example]) -> None:
    length = int(codec.encode_training([examples[0]]).inputs["attention_mask"].sum())
    codec.encode_training([examples[0]], max_length=length)
    with pytest.raises(DataError, match=f"'one' is {length} tokens long"):
        codec.encode_training([examples[0]], max_length=length - 1)


def test_an_example_without_an_answer_cannot_be_tuned_on(codec: Codec, examples: list[Example]) -> None:
    with pytest.raises(DataError, match="'none' has no answer"):
        codec.encode_training([dataclasses.replace(examples[2], answers=(" ",))])


def test_a_template_without_end_token_gets_one() -> None:
    model, processor = tiny.llava()
    processor.chat_template = (
        "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for p in m['content'] %}"
        "{{ '<image>\\n' if p['type'] == 'image' else p['text'] }}{% endfor %}{{ ' ' }}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    )
    codec = Codec(processor, model.config, model.generation_config)
    asked = Example(
        "a", (Message("user", ("Hi",)), Message("assistant", ("Yes.",)), Message("user", ("So?",))), ("No.",)
    )
    end = codec.tokenizer.eos_token
    assert supervised_text(codec, codec.encode_training([asked]), 0) == f"Yes.{end}No.{end}"


def test_turns_that_are_not_to_be_learned_are_not_supervised(codec: Codec) -> None:
    def conversation(learned: bool) -> Example:
        said = Message("assistant", ("Red, red.",), supervised=learned)
        return Example("a", (Message("user", ("Hi",)), said, Message("user", ("So?",))), ("Blue.",))

    both, last = codec.encode_training([conversation(True)]), codec.encode_training([conversation(False)])
    assert supervised_text(codec, both, 0) == "Red, red.<|im_end|>Blue.<|im_end|>"
    assert supervised_text(codec, last, 0) == "Blue.<|im_end|>"
    assert both.inputs["input_ids"].equal(last.inputs["input_ids"])


def test_a_template_that_rewrites_earlier_turns_is_refused(examples: list[Example]) -> None:
    model, processor = tiny.llava()
    processor.chat_template = processor.chat_template.replace("assistant\\n' }}", "assistant\\n<think>' }}")
    codec = Codec(processor, model.config, model.generation_config)
    with pytest.raises(ModelError, match="renders a finished turn differently"):
        codec.encode_training([examples[0]])


def test_a_processor_that_does_not_say_what_it_writes_will_do(
    codec: Codec, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = codec.encode_training(examples)
    render = codec.processor.apply_chat_template

    def silent(*chats: Any, **settings: Any) -> Any:
        made = render(*chats, **settings)
        made.pop("text_replacement_offsets")
        return made

    monkeypatch.setattr(codec.processor, "apply_chat_template", silent)
    found = codec.encode_training(examples)
    assert found.labels.equal(told.labels)
    assert found.image_mask.equal(told.image_mask)


def test_lengths_of_pictures_that_nobody_tells_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of different sizes before, between and after answers; beside one another; and without any."""
    model, processor = tiny.qwen2_vl()
    codec = Codec(processor, model.config, model.generation_config)
    small, wide, tall = (Image(make=partial(noise, 1, *size)) for size in ((16, 16), (24, 48), (40, 16)))
    first = (
        Message("user", (wide, "Is it?")),
        Message("assistant", ("Is it?",)),
        Message("user", (small, tall, "Yes.")),
    )
    examples = [
        Example("one", first, ("Yes.",)),
        Example("two", (*first, Message("assistant", ("No.",)), Message("user", ("Really?", tall))), ("Is it?",)),
        Example("none", (Message("user", ("Is it?",)),), ("Yes.",)),
    ]
    told = codec.encode_training(examples)
    assert [supervised_text(codec, told, row) for row in range(3)] == [
        "Is it?<|im_end|>Yes.<|im_end|>", "Is it?<|im_end|>No.<|im_end|>Is it?<|im_end|>", "Yes.<|im_end|>",
    ]  # fmt: skip
    counts = [int((told.inputs["input_ids"][row] == codec.image_id).sum()) for row in range(3)]
    assert counts == [4 + 18 + 10, 4 + 18 + 10 + 10, 0], "pixels by 8 x 8"
    render = codec.processor.apply_chat_template

    def silent(*chats: Any, **settings: Any) -> Any:
        made = render(*chats, **settings)
        made.pop("text_replacement_offsets")
        return made

    monkeypatch.setattr(codec.processor, "apply_chat_template", silent)
    found = codec.encode_training(examples)
    assert found.labels.equal(told.labels)


def test_how_long_a_prompt_is_before_it_is_encoded(codec: Codec, examples: list[Example]) -> None:
    """Characters count a quarter, a picture what the processor says, a guess where it is silent, none if unreadable."""
    assert codec.picture_length(examples[3]) == 2 * 9
    assert codec.prompt_length(examples[0]) == len("What is it?") // 4 + 9
    broken = dataclasses.replace(examples[0], prompt=(Message("user", (Image(make=lambda: b"no"), "What is it?")),))
    assert codec.prompt_length(broken) == 2
    silent = Codec(SilentProcessor(codec.processor), *SETTINGS)
    assert silent.picture_length(examples[3]) == 2 * 576


def test_a_template_that_drops_pictures_is_refused(examples: list[Example]) -> None:
    model, processor = tiny.llava()
    processor.chat_template = tiny.chatml("")
    codec = Codec(processor, model.config, model.generation_config)
    codec.encode_prompts(examples[2:3])
    with pytest.raises(ModelError, match="llava model"):
        codec.encode_prompts(examples[:1])


def test_what_a_template_refuses_is_one_line(examples: list[Example]) -> None:
    model, processor = tiny.llava()
    processor.chat_template = tiny.chatml("<image>").replace(
        "{{ '<|im_start|>' +",
        "{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ '<|im_start|>' +",
    )
    codec = Codec(processor, model.config, model.generation_config)
    with pytest.raises(ModelError, match="refused its input: no system"):
        codec.encode_prompts(examples[3:])


def test_the_fingerprint_follows_the_template() -> None:
    model, processor = tiny.llava()
    one = Codec(processor, model.config, model.generation_config).fingerprint
    assert one == Codec(processor, model.config, model.generation_config).fingerprint
    processor.chat_template += " "
    assert one != Codec(processor, model.config, model.generation_config).fingerprint
