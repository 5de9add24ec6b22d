"""Logits that make no distribution are no answer: the example fails and says why, and nobody beside it notices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models import tiny
from tests.models.conftest import noise
from vlmend.backends.hf import Hf
from vlmend.errors import ModelError
from vlmend.models.decode import NOT_FINITE, undefined
from vlmend.models.generate import IMPOSSIBLE
from vlmend.types import Decoding, Example, Finish, Image, Message, Response

BROKEN = "Z"  # a prompt that has it gets no distribution
WAYS = {
    "greedy": Decoding(max_new_tokens=5),
    "sampled": Decoding(max_new_tokens=5, do_sample=True, num_return_sequences=3),
    "beams": Decoding(max_new_tokens=5, num_beams=3),
    "penalized": Decoding(max_new_tokens=5, repetition_penalty=1.3, no_repeat_ngram_size=3, min_new_tokens=2),
    "late": Decoding(max_new_tokens=5, min_new_tokens=4),
}


@cache
def picture() -> Image:
    data = noise(1)
    return Image(make=lambda: data)


def about_a_picture(text: str) -> Example:
    return Example(text, (Message("user", (picture(), f"{'What do you see in it? ' * 3}{text}")),), ("A ring.",))


SOUND = [about_a_picture(text) for text in ("Left?", "And right of the cup?")]
LOST = [about_a_picture(f"{BROKEN}?"), Example("words", (Message("user", (f"Say {BROKEN}.",)),), ("Yes.",))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Hf]:
    return cache(lambda name, **how: Hf(str(tiny.save(name, tmp_path_factory.mktemp(name))), device="cpu", **how))


@contextmanager
def broken(model: Hf, value: str, token: int | None = None, *, alone: bool = False) -> Iterator[None]:
    """What is shown `BROKEN`, or this token, has logits that are NaN; or one is infinity, or all minus infinity.

    `alone`: only where the token is fed by itself, as those of answers are.
    """
    inside, codec = model._loaded.model, model._loaded.codec
    wanted = codec.tokenizer.convert_tokens_to_ids(BROKEN) if token is None else token

    def undo(module: Any, inputs: tuple[Tensor], embedded: Tensor) -> Tensor:
        ids = inputs[0]
        bad = (ids == wanted) & (ids.shape[1] == 1 if alone else torch.ones_like(ids, dtype=torch.bool))
        return embedded.masked_fill(bad[..., None], math.nan)

    def spoil(module: Any, inputs: Any, logits: Tensor) -> Tensor:
        instead = torch.zeros(logits.shape[-1]) if value == "inf" else torch.full((logits.shape[-1],), float(value))
        instead[7] = float(value)
        return torch.where(logits.isnan().any(dim=-1, keepdim=True), instead, logits)

    handles = [
        inside.get_input_embeddings().register_forward_hook(undo),
        inside.get_output_embeddings().register_forward_hook(spoil),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def said(model: Hf, examples: list[Example], decoding: Decoding) -> dict[tuple[str, int], Response]:
    return {(r.example_id, r.sample): r for r in model.generate(examples, decoding)}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_no_distribution_is_a_failed_response(name: str, way: str, value: str, model: Callable[..., Hf]) -> None:
    """Shared beginnings or not, in our own loop and in transformers', and those beside it answer as without it."""
    found, decoding = model(name), WAYS[way]
    expected = {key: r.text for key, r in said(found, SOUND, decoding).items()}
    with broken(found, value):
        answers = said(found, [*SOUND, *LOST], decoding)
    assert len(answers) == 4 * decoding.num_return_sequences
    for (example, sample), response in answers.items():
        if (example, sample) in expected:
            assert response.text == expected[example, sample]
            assert response.finish is not Finish.FAILED
        else:
            assert (response.finish, response.text, response.why) == (Finish.FAILED, "", NOT_FINITE)
            assert not response.said


@pytest.mark.parametrize("way", ["greedy", "beams"])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_an_answer_that_breaks_off_halfway_is_none(name: str, way: str, model: Callable[..., Hf]) -> None:
    """The model's own first token undoes it."""
    found = model(name)
    [answer] = found._engine.answers(SOUND[:1], WAYS[way])
    assert answer.ids is not None
    with broken(found, "nan", answer.ids[0], alone=True):
        [response] = found.generate(SOUND[:1], WAYS[way])
    assert (response.finish, response.why) == (Finish.FAILED, NOT_FINITE)


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_what_comes_after_an_answers_end_is_not_asked(name: str, model: Callable[..., Hf]) -> None:
    """A row that has ended is fed something while others go on; that this breaks says nothing about its answer."""
    found, decoding = model(name), Decoding(max_new_tokens=6)
    codec, usual = found._loaded.codec, found._loaded.codec.eos_ids
    examples = [Example(text, (Message("user", (text,)),)) for text in ("Yes?", "So what?", "12345", "Ö", "(())" * 9)]
    answers = [a.ids or [] for a in found._engine.answers(examples, decoding)]
    end = next(ids[i] for i in range(4) for ids in answers if any(ids[i] not in other for other in answers))
    codec.eos_ids = frozenset({end})
    try:
        expected = {key: (r.text, r.finish) for key, r in said(found, examples, decoding).items()}
        assert {str(finish) for _, finish in expected.values()} == {"stop", "length"}
        with broken(found, "nan", codec.pad_id, alone=True), broken(found, "nan", end, alone=True):
            again = {key: (r.text, r.finish) for key, r in said(found, examples, decoding).items()}
    finally:
        codec.eos_ids = usual
    assert again == expected


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_likelihoods_under_no_distribution_are_unknown(name: str, value: str, model: Callable[..., Hf]) -> None:
    found = model(name)
    pairs = [(example, ("A ring.", "No.")) for example in [*SOUND, *LOST]]
    expected = {(one.example_id, one.answer): one.logprob for one in found.likelihoods(pairs[:2])}
    with broken(found, value):
        weighed = list(found.likelihoods(pairs))
    assert len(weighed) == 8
    for one in weighed:
        if (one.example_id, one.answer) in expected:
            assert one.logprob == pytest.approx(expected[one.example_id, one.answer], rel=1e-4)
        else:
            assert (one.logprob, one.why, one.by_token) == (None, NOT_FINITE, ())


def test_an_answer_of_no_probability_is_said_to_be_one(model: Callable[..., Hf]) -> None:
    found = model("llava")
    letter = found._loaded.codec.tokenizer.convert_tokens_to_ids("A")

    def never(module: Any, inputs: Any, logits: Tensor) -> Tensor:
        return logits.index_fill(-1, torch.tensor([letter]), -math.inf)

    handle = found._loaded.model.get_output_embeddings().register_forward_hook(never)
    try:
        [ring, none] = found.likelihoods([(SOUND[0], ("A ring.", "No."))])
    finally:
        handle.remove()
    assert (ring.logprob, ring.why) == (None, IMPOSSIBLE)
    assert none.logprob is not None


@pytest.mark.parametrize(
    ("logits", "lost"),
    [
        ([0.0, 1.0, -math.inf], False),
        ([0.0, math.nan, 1.0], True),
        ([0.0, math.inf, 1.0], True),
        ([-math.inf] * 3, True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_makes_no_distribution(logits: list[float], lost: bool, dtype: torch.dtype) -> None:
    assert undefined(torch.tensor([logits, [1.0, 2.0, 3.0]], dtype=dtype)).tolist() == [lost, False]


def test_pixels_are_not_changed_after_a_loss_that_is_none(model: Callable[..., Hf]) -> None:
    found = model("llava")
    victim = found.victim()
    with broken(found, "nan"), pytest.raises(ModelError, match="is nan"):
        victim.loss(LOST[0], "Sure")
    with broken(found, "nan"), pytest.raises(ModelError, match="is nan"):
        victim.gradients(LOST[0], "Sure")
    assert math.isfinite(victim.loss(SOUND[0], "Sure"))
