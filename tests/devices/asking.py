"""What a model on a device says, and how likely it finds what others say, is what it does on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.judge.judges import test_classifier as classifiers
from tests.models import tiny
from tests.models.conftest import noise
from vlmend.attacks.pgd import Pgd
from vlmend.backends.hf import Hf
from vlmend.models import classify
from vlmend.types import Decoding, Example, Image, Likelihood, Message

QUESTIONS = ("What is it?", "Where is the ring, left or right of the cup?")
GREEDY = Decoding(max_new_tokens=6)
SAMPLED = Decoding(max_new_tokens=6, do_sample=True, temperature=1.5, top_p=0.98, top_k=90, num_return_sequences=2)


@cache
def picture(seed: int) -> Image:
    data = noise(seed, height=24, width=24 + 8 * (seed % 2))
    return Image(make=lambda: data)


def asked() -> list[Example]:
    """Two questions about each of two pictures."""
    return [
        Example(f"{seed}/{q}", (Message("user", (picture(seed), text)),))
        for seed in (1, 2)
        for q, text in enumerate(QUESTIONS)
    ]


@pytest.fixture(scope="session")
def models(family: Callable[[str], Path]) -> Callable[[str, str], Hf]:
    """A model of a family on a device, loaded once."""
    return cache(lambda name, device: Hf(str(family(name)), device=device))


def said(model: Hf, decoding: Decoding) -> dict[tuple[str, int], tuple[str, int, str]]:
    """Text, length and end of every answer. Ids stand for the weights, which are the same."""
    return {(r.example_id, r.sample): (r.text, r.tokens, str(r.finish)) for r in model.generate(asked(), decoding)}


def weighed(model: Hf) -> dict[tuple[str, str], Likelihood]:
    """How likely two answers to every question are."""
    pairs = [(example, ("A ring.", "No.")) for example in asked()]
    return {(one.example_id, one.answer): one for one in model.likelihoods(pairs)}


@pytest.mark.parametrize("name", list(tiny.FAMILIES))
def test_every_family_answers(name: str, models: Callable[[str, str], Hf], device: str) -> None:
    """Greedily, in samples, and how likely it finds two answers to each question; with prefixes shared and without."""
    here, there = models(name, device), models(name, "cpu")
    assert here._loaded.model.device.type == torch.device(device).type
    greedy, sampled, likely = said(there, GREEDY), said(there, SAMPLED), weighed(there)
    apart = replace(here, share_prefix=False)
    vars(apart)["_loaded"] = here._loaded
    for way in (here, apart):
        assert said(way, GREEDY) == greedy
        assert said(way, SAMPLED) == sampled
        for key, found in weighed(way).items():
            assert found.by_token == pytest.approx(likely[key].by_token, rel=1e-4, abs=1e-5)
            assert found.greedy == likely[key].greedy


@pytest.mark.parametrize(
    "how",
    [
        {"num_beams": 3}, {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2}, {"min_new_tokens": 5},
        {"do_sample": True, "repetition_penalty": 1.5},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_every_decoding(name: str, how: dict[str, Any], models: Callable[[str, str], Hf], device: str) -> None:
    decoding = Decoding(max_new_tokens=6, **how)
    assert said(models(name, device), decoding) == said(models(name, "cpu"), decoding)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_gradients_by_pixels(name: str, models: Callable[[str, str], Hf], device: str) -> None:
    [example, *_] = asked()
    (loss, [slope]), (loss_there, [slope_there]) = (
        models(name, where).victim().gradients(example, "Sure, here") for where in (device, "cpu")
    )
    assert loss == pytest.approx(loss_there, rel=1e-5)
    np.testing.assert_allclose(slope, slope_there, rtol=1e-3, atol=1e-5 * np.abs(slope_there).max())


def test_pictures_made_by_gradients(models: Callable[[str, str], Hf], device: str, tmp_path: Path) -> None:
    """A step that rounding decides differently may differ; the attack does not."""
    [example, *_] = asked()
    victims = [models("llava", where).victim() for where in (device, "cpu")]
    attack = Pgd(eps=8, steps=2, step=4, target="Sure")
    made = [attack.against(v, tmp_path / str(i))(example) for i, v in enumerate(victims)]
    there = victims[1]
    assert there.loss(made[0], "Sure") == pytest.approx(there.loss(made[1], "Sure"), rel=1e-3)
    assert there.loss(made[0], "Sure") < there.loss(example, "Sure")


def test_text_classifiers(device: str, tmp_path: Path) -> None:
    classifiers.network(tmp_path, ["safe", "unsafe"])
    mine, theirs = (classify.load(str(tmp_path), device=where) for where in (device, "cpu"))
    assert mine.device.type == torch.device(device).type
    np.testing.assert_allclose(mine.logits(classifiers.TEXTS), theirs.logits(classifiers.TEXTS), rtol=1e-4, atol=1e-5)


def test_adapters_and_precisions(family: Callable[[str], Path], device: str, tmp_path: Path) -> None:
    """An adapter is merged in fp32 and stays apart in bf16, where no more than the first token is compared."""
    from vlmend.config import ModelConfig
    from vlmend.models.load import load, save

    tuned = load(ModelConfig(name=str(family("llava")), device=device), for_training=True)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.05)
    save(tuned, tmp_path)
    spec = f"{family('llava')}+{tmp_path}"
    mine, theirs = (Hf(spec, device=where) for where in (device, "cpu"))
    assert said(mine, GREEDY) == said(theirs, GREEDY)
    assert said(mine, GREEDY) != said(Hf(str(family("llava")), device=device), GREEDY)
    pairs = [(example, ("A ring.",)) for example in asked()]
    low, low_there = (
        [one.logprob for one in Hf(spec, device=w, dtype="bfloat16").likelihoods(pairs)] for w in (device, "cpu")
    )
    assert low == pytest.approx(low_there, rel=0.02)
