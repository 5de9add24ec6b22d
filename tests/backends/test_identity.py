"""What every backend shares: the identity of answers, and what of them is reasoning."""

import pytest

from vlmend.backends import response_id, split_reasoning
from vlmend.types import Decoding, Example, Message

TAGS = ("<think>", "</think>")
EXAMPLE = Example("e", (Message("user", ("Why?",)),))


def test_more_samples_keep_the_names_of_those_there() -> None:
    few, many = (Decoding(do_sample=True, num_return_sequences=n, first_sample=n // 5) for n in (4, 8))
    assert response_id("m", EXAMPLE, few, 2) == response_id("m", EXAMPLE, many, 2)
    assert len({response_id("m", EXAMPLE, many, sample) for sample in range(8)}) == 8


@pytest.mark.parametrize(
    ("said", "begun", "reasoning", "text"),
    [
        ("Red.", False, "", "Red."),
        ("<think>a</think>b", False, "a", "b"),
        ("<think>a</think>b", True, "a", "b"),
        ("a</think>b", True, "a", "b"),
        ("a</think>b", False, "a", "b"),
        ("a", True, "a", ""),
        ("<think>a", False, "a", ""),
        ("<think>a</think>b<think>c</think>d", False, "ac", "bd"),
        ("b <think>a</think> c", False, "a", "b  c"),
        ("<think></think>", False, "", ""),
        ("", False, "", ""),
        ("", True, "", ""),
    ],
)
def test_reasoning_is_what_stands_between_the_tags(said: str, begun: bool, reasoning: str, text: str) -> None:
    assert split_reasoning(said, TAGS, begun) == (reasoning, text)
