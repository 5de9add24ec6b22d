"""Examples that attacks are tried on."""

from functools import partial

import pytest

from vlmend.drawing import solid
from vlmend.types import Example, Expected, Image, Message

SIZES = ((24, 16), (10, 30))


def surface(color: str, size: tuple[int, int]) -> Image:
    return Image(make=partial(solid, color, size))


@pytest.fixture
def single() -> Example:
    prompt = (
        Message("user", ("Hello there",)),
        Message("assistant", ("Hi.",)),
        Message("user", (surface("red", SIZES[0]), "Describe this, please.")),
    )
    return Example(
        "one", prompt, answers=("No.",), expected=Expected.REFUSE, subset="unsafe", cluster="red", meta={"k": "v"}
    )


@pytest.fixture
def pair() -> Example:
    parts = ("First", surface("green", SIZES[0]), "then", surface("blue", SIZES[1]), "differ how?")
    return Example("two", (Message("user", parts),), answers=("In color.",), cluster="pair")
