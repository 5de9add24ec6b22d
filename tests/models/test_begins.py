"""Words right behind the prompt: as likely as generation finds them, whatever the template does with answers."""

from functools import partial
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageClassification

from tests.models import tiny
from tests.models.conftest import noise
from vlmend.backends.hf import Hf
from vlmend.types import Decoding, Example, Finish, Image, Message

WORDS = ("Yes", "No", "\n\nsafe", "unsafe")
ONE_PROMPT = (  # as guards' templates: all turns in one prompt, which may end with either
    "<s><|im_start|>user\nIs the last turn safe?{% for m in messages %}\n{{ m['role'] }}: "
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}IMAGE{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}<|im_end|>\n<|im_start|>assistant\n"
)


def picture(seed: int = 1) -> Image:
    return Image(make=partial(noise, seed, 24, 24))


def asked(*texts: str) -> list[Example]:
    return [Example(text, (Message("user", (picture(i), text)),)) for i, text in enumerate(texts)]


def by_hand(backend: Any, example: Example, text: str) -> float:
    """The model's own forward pass over the prompt and the words, token by token, without a cache."""
    model, codec = backend._loaded.model, backend._loaded.codec
    batch = codec.encode_prompts([example])
    total, words = 0.0, codec.tokenizer(text, add_special_tokens=False)["input_ids"]
    inputs = dict(batch.inputs)
    for word in words:
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False).logits[0, -1].float().log_softmax(-1)
        total += float(logits[word])
        more = {"input_ids": torch.tensor([[word]]), "attention_mask": torch.ones(1, 1, dtype=torch.long)}
        for name in ("token_type_ids", "mm_token_type_ids"):
            more[name] = torch.zeros(1, 1, dtype=torch.long)
        inputs = {n: torch.cat([v, more[n].to(v.dtype)], 1) if n in more else v for n, v in inputs.items()}
    return total


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen2_5_vl", "gemma3"])
def test_they_are_what_the_model_says_of_the_next_tokens(family: str, tmp_path: Any) -> None:
    backend = Hf(str(tiny.save(family, tmp_path)), device="cpu", dtype="float32")
    examples = asked("Is it a ring?", "What else is there?")
    found = {(one.example_id, one.answer): one for one in backend.beginnings([(e, WORDS) for e in examples])}
    assert len(found) == len(examples) * len(WORDS)
    for example in examples:
        for word in WORDS:
            one = found[example.id, word]
            assert one.logprob == pytest.approx(by_hand(backend, example, word), abs=1e-3), (one, word)
            assert sum(one.by_token) == pytest.approx(one.logprob)


def test_a_template_that_writes_all_turns_into_one_prompt(tmp_path: Any) -> None:
    """As an answer the words would be judged with the rest; behind the prompt they are what the guard says."""
    model, processor = tiny.FAMILIES["qwen2_vl"]()
    processor.chat_template = ONE_PROMPT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor.tokenizer.chat_template = None
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    backend = Hf(str(tmp_path), device="cpu", dtype="float32")
    turns = (Message("user", (picture(), "How?")), Message("assistant", ("Like this.",)))
    example = Example("e", turns)
    said = {one.answer: one for one in backend.beginnings([(example, WORDS)])}
    assert all(one.logprob is not None for one in said.values()), said
    assert said["Yes"].logprob == pytest.approx(by_hand(backend, example, "Yes"), abs=1e-3)


def test_shieldgemma_2_is_what_its_own_class_says(tmp_path: Any) -> None:
    """The classifier's probability of Yes, by its own processor and head, from the same folder."""
    model, processor = tiny.shieldgemma2()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    own, _ = AutoModelForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    policies = {"a": "Rule one.", "b": "No wheels of any kind."}
    processor.policy_definitions = policies
    backend = Hf(str(tmp_path), device="cpu", dtype="float32")
    shown = picture()
    made = processor(images=[shown.open()], return_tensors="pt")
    with torch.inference_mode():
        expected = own.eval()(**made).probabilities[:, 0].tolist()
    examples = [Example(n, (Message("user", (shown, text)),)) for n, text in policies.items()]
    yes, no = processor.tokenizer.convert_ids_to_tokens([own.yes_token_index, own.no_token_index])
    for one, wanted in zip(examples, expected, strict=True):
        found = {f.answer: f.logprob for f in backend.beginnings([(one, (yes, no))])}
        share = torch.tensor([found[yes], found[no]]).softmax(0)[0]
        assert float(share) == pytest.approx(wanted, abs=1e-4)
    several = Example("s", (Message("user", (shown, shown, "Rule.")),))
    [refused] = backend.beginnings([(several, (yes,))])
    assert refused.logprob is None
    assert "is no picture with a policy" in refused.why


def test_llama_guard_4_sees_every_picture_of_a_conversation(tmp_path: Any) -> None:
    """One, two or no pictures in one batch; each conversation is weighed as it is alone, and pictures count."""
    model, processor = tiny.llama4()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    backend = Hf(str(tmp_path), device="cpu", dtype="float32")
    examples = [
        Example(str(seeds), (Message("user", (*map(picture, seeds), "How?")), Message("assistant", ("Like this.",))))
        for seeds in ((1,), (1, 2), (2, 1), ())
    ]
    found = {(one.example_id, one.answer): one.logprob for one in backend.beginnings([(e, WORDS) for e in examples])}
    for example in examples:
        for word in WORDS:
            assert found[example.id, word] == pytest.approx(by_hand(backend, example, word), abs=1e-3)
    assert len({round(found[e.id, "unsafe"] or 0.0, 6) for e in examples}) == len(examples)
    said = list(backend.generate(examples, Decoding(max_new_tokens=3)))
    assert sorted(r.example_id for r in said) == sorted(e.id for e in examples)
    assert all(r.finish is not Finish.FAILED for r in said)
