"""A loaded model that attacks may see into: the loss of a wanted answer, and its gradient by the pictures' pixels.

Forward passes go through the codec as everything does. The way back from what the processor made of a picture to the
picture itself is measured, not written down per family: solid colors tell which numbers belong to which channel and by
how much they scale it, ramps tell which row and column each came from. So it holds for any processor that resizes,
crops, pads, tiles, normalizes and rearranges. Where it resizes, the gradient is spread over the pixels between samples:
close enough for the sign of a step, not for more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import uniform_filter
from torch import Tensor

from vlmend.drawing import png
from vlmend.errors import ModelError
from vlmend.models.codec import Batch
from vlmend.models.load import Loaded
from vlmend.ops.logprobs import IGNORE, answer_logps
from vlmend.types import Example, Image, Part

Array = NDArray[Any]


@dataclass(frozen=True)
class Way:
    """Where numbers that a processor made of one picture came from: flat index, and row, column, channel, scale."""

    size: tuple[int, int]  # height, width
    index: Array
    row: Array
    column: Array
    channel: Array
    scale: Array  # change of the number per step of 1 in 255 of the pixel

    def back(self, slope: Array) -> Array:
        """(height, width, 3) gradient by pixels from the flat gradient by the processor's numbers."""
        found = np.zeros((*self.size, 3))
        np.add.at(found, (self.row, self.column, self.channel), slope[self.index] * self.scale)
        spacing = int(np.ceil(np.sqrt(self.size[0] * self.size[1] * 3 / max(len(self.index), 1)) - 0.01))
        width = spacing + 1 - spacing % 2  # odd, so that nothing shifts
        return uniform_filter(found, width, mode="nearest", axes=(0, 1)) if width > 1 else found


class LocalVictim:
    """One model on this machine. It is not changed: only gradients by pictures are computed.

    Raises ModelError where the loss is not finite: there is no telling which picture is worse.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._ways: dict[tuple[tuple[int, int], ...], list[Way]] = {}

    @property
    def fingerprint(self) -> str:
        """That of the model."""
        return self._loaded.fingerprint

    def loss(self, example: Example, target: str) -> float:
        """-log p(target | prompt, pictures) per token of the target, its end token left out."""
        with torch.no_grad():
            return _finite(float(self._forward(self._encoded(example, target))), example)

    def gradients(self, example: Example, target: str) -> tuple[float, list[Array]]:
        """The loss, and its gradient by the pixels of every picture, (height, width, 3) each, per step of 1 in 255."""
        batch = self._encoded(example, target)
        name = _pixel_name(batch)
        pixels = batch.inputs[name].to(self._loaded.model.dtype).requires_grad_()
        batch.inputs[name] = pixels
        loss = self._forward(batch)
        value = _finite(float(loss.detach()), example)
        [slope] = torch.autograd.grad(loss, [pixels])
        flat = slope.flatten().cpu().double().numpy()
        return value, [way.back(flat) for way in self._way(example, target)]

    def _encoded(self, example: Example, target: str) -> Batch:
        batch = self._loaded.codec.encode_training([replace(example, answers=(target,), reasoning="")])
        last = int((batch.labels[0] != IGNORE).nonzero()[-1])
        if int(batch.labels[0, last]) in self._loaded.codec.eos_ids:
            batch.labels[0, last] = IGNORE
        return batch.to(self._loaded.model.device)

    def _forward(self, batch: Batch) -> Tensor:
        logits = self._loaded.model(**batch.inputs, use_cache=False).logits
        return -answer_logps(logits, batch.labels).logps.mean()

    def _way(self, example: Example, target: str) -> list[Way]:
        sizes = tuple(image.open().size for image in example.images)
        if sizes not in self._ways:
            self._ways[sizes] = [self._measure(example, target, sizes, number) for number in range(len(sizes))]
        return self._ways[sizes]

    def _measure(self, example: Example, target: str, sizes: Sequence[tuple[int, int]], number: int) -> Way:
        """Show probes in the place of one picture and black in the places of the others."""

        def made(probe: Array) -> Array:
            shown = [np.zeros((h, w, 3)) for w, h in sizes]
            shown[number] = probe
            batch = self._encoded(_with_pictures(example, shown), target)
            return batch.inputs[_pixel_name(batch)].flatten().cpu().double().numpy()

        width, height = sizes[number]
        black = made(np.zeros((height, width, 3)))
        ramp_down, ramp_right = (
            np.broadcast_to(ramp, (height, width, 3)) for ramp in (_ramp(height)[:, None, None], _ramp(width)[:, None])
        )
        lit = np.stack([made(np.full((height, width, 3), 255.0) * (np.arange(3) == c)) - black for c in range(3)])
        channel = np.abs(lit).argmax(axis=0)
        gain = np.take_along_axis(lit, channel[None], axis=0)[0]
        index = np.flatnonzero(np.abs(gain) > 1e-6)
        row, column = (
            np.rint((made(ramp) - black)[index] / gain[index] * (side - 1)).clip(0, side - 1).astype(int)
            for ramp, side in ((ramp_down, height), (ramp_right, width))
        )
        return Way((height, width), index, row, column, channel[index], gain[index] / 255)


def _finite(loss: float, example: Example) -> float:
    if not math.isfinite(loss):
        raise ModelError(
            f"the model's loss of the wanted answer to example {example.id!r} is {loss}: nothing to follow"
        )
    return loss


def _ramp(side: int) -> Array:
    return 255 * np.arange(side) / max(side - 1, 1)


def _with_pictures(example: Example, arrays: Sequence[Array]) -> Example:
    left = iter(arrays)

    def part(p: Part) -> Part:
        return Image(make=partial(_png, next(left))) if isinstance(p, Image) else p

    return replace(example, prompt=tuple(replace(m, parts=tuple(map(part, m.parts))) for m in example.prompt))


def _png(pixels: Array) -> bytes:
    return png(Pillow.fromarray(np.rint(pixels).astype(np.uint8)))


def _pixel_name(batch: Batch) -> str:
    """The input that holds the pictures' numbers. Raises ModelError where there is none, or more than one."""
    found = [name for name, value in batch.inputs.items() if "pixel_values" in name and value.is_floating_point()]
    if len(found) != 1:
        raise ModelError(f"pixels cannot be attacked: this model takes pictures as {', '.join(found) or 'nothing'}")
    return found[0]
