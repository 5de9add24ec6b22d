"""Gradients by pixels: against the true derivative where the processor's work can be undone by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from tests.models import tiny
from tests.models.conftest import noise
from vlmend.models.codec import Codec
from vlmend.models.load import Loaded
from vlmend.models.parts import count
from vlmend.models.victim import LocalVictim
from vlmend.ops.logprobs import answer_logps
from vlmend.types import Example, Image, Message

TARGET = "Sure, here"


def loaded(name: str) -> Loaded:
    model, processor = {"llava": tiny.llava, "qwen2_vl": tiny.qwen2_vl}[name]()
    model.requires_grad_(False).eval()
    codec = Codec(processor, model.config, model.generation_config)
    return Loaded(model, codec, "f", "b", count(model))


def asking(*sizes: tuple[int, int]) -> Example:
    pictures = [Image(make=partial(noise, seed, *size)) for seed, size in enumerate(sizes)]
    return Example("e", (Message("user", (*pictures, "Describe it.")),))


def test_gradient_of_llava_is_the_true_one_where_nothing_is_resized() -> None:
    model = loaded("llava")
    example = asking((24, 24))
    loss, [slope] = LocalVictim(model).gradients(example, TARGET)
    pixels = torch.tensor(np.asarray(example.images[0].open()), dtype=torch.float32, requires_grad=True)
    statistics = model.codec.processor.image_processor
    mean, deviation = torch.tensor(statistics.image_mean), torch.tensor(statistics.image_std)
    batch = model.codec.encode_training([Example("e", example.prompt, (TARGET,))])
    batch.labels[0, int((batch.labels[0] != -100).nonzero()[-1])] = -100  # the end token is no part of the target
    inputs = {**batch.inputs, "pixel_values": ((pixels / 255 - mean) / deviation).permute(2, 0, 1)[None]}
    true = -answer_logps(model.model(**inputs).logits, batch.labels).logps.mean()
    true.backward()
    assert pixels.grad is not None
    assert loss == pytest.approx(float(true.detach()), abs=1e-5)
    assert np.abs(slope).max() > 0
    np.testing.assert_allclose(slope, pixels.grad.numpy(), atol=1e-6 * float(pixels.grad.abs().max()) + 1e-9, rtol=1e-3)
    assert LocalVictim(model).loss(example, TARGET) == pytest.approx(float(true.detach()), abs=1e-5)


SHOWN = [
    ("llava", [(48, 36)]),
    ("llava", [(24, 24), (60, 24)]),
    ("qwen2_vl", [(56, 84)]),
    ("qwen2_vl", [(56, 56), (84, 56)]),
]


@pytest.mark.parametrize(("name", "sizes"), SHOWN)
def test_a_step_against_the_gradient_lowers_the_loss_more_than_other_steps(
    name: str, sizes: list[tuple[int, int]]
) -> None:
    victim = LocalVictim(loaded(name))
    example = asking(*sizes)
    before, slopes = victim.gradients(example, TARGET)
    assert [slope.shape for slope in slopes] == [(*size, 3) for size in sizes]

    def stepped(direction: list[np.ndarray]) -> float:
        from vlmend.models.victim import _with_pictures

        shown = [np.asarray(i.open()) + 6 * d for i, d in zip(example.images, direction, strict=True)]
        return victim.loss(_with_pictures(example, [np.clip(x, 0, 255) for x in shown]), TARGET)

    rng = np.random.default_rng(0)
    downhill = stepped([-np.sign(s) for s in slopes])
    aside = [stepped([rng.choice([-1.0, 1.0], s.shape) for s in slopes]) for _ in range(5)]
    uphill = stepped([np.sign(s) for s in slopes])
    assert downhill < min(aside)
    assert downhill < before < uphill


def test_the_model_is_left_as_it_was() -> None:
    model = loaded("llava")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    LocalVictim(model).gradients(asking((24, 24)), TARGET)
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.model.parameters())
