"""Length pays by the token; the published run's pay outweighs all safety from 128 tokens on."""

from __future__ import annotations

import pytest

from vlmend.rewards.begins import Begins
from vlmend.rewards.length import Length
from vlmend.types import Example, Message, Rollout


def rollout(tokens: int = 0, text: str = "x") -> Rollout:
    return Rollout(Example("e", (Message("user", ("q",)),)), text, tokens, finished=False)


def test_pays_for_every_token_up_to_most() -> None:
    assert Length()([rollout(0), rollout(128), rollout(512)]) == [0.0, 1.0, 4.0]
    assert Length(-0.5, most=10)([rollout(4), rollout(10), rollout(11)]) == [-2.0, -5.0, -5.0]


@pytest.mark.parametrize(("text", "value"), [("No, it is", 1.0), (" no", 1.0), ("Yes, no", 0.0), ("", 0.0)])
def test_begins_looks_at_the_first_words_alone(text: str, value: float) -> None:
    assert Begins("No")([rollout(text=text)]) == [value]
