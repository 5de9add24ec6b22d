"""Pictures and examples that every family must cope with."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image as Pillow

from vlmend.types import Example, Image, Message


def noise(seed: int, height: int = 24, width: int = 32) -> bytes:
    """A PNG of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures() -> list[Image]:
    return [Image(make=partial(noise, seed)) for seed in range(4)]


@pytest.fixture
def examples(pictures: list[Image]) -> list[Example]:
    """One picture, several with text between, none, several turns, a picture after an answer."""
    one, two, three, four = pictures
    return [
        Example("one", (Message("user", (one, "What is it?")),), ("A ring.",)),
        Example("several", (Message("user", ("First", two, "then", three, "differ how?")),), ("In colour, I think.",)),
        Example("none", (Message("user", ("Say something without a picture.",)),), ("Something.",)),
        Example(
            "turns",
            (
                Message("system", ("Be brief.",)),
                Message("user", (one, "Where is it?")),
                Message("assistant", ("On the left.",)),
                Message("user", (four, "And here?")),
            ),
            ("On the right, far from the other one.",),
        ),
    ]
