"""What every backend shares: the identity of answers, and what of them is reasoning."""

from dataclasses import replace
from functools import partial

import pytest

from tests.models.conftest import noise
from vlmend.backends import response_id, split_reasoning
from vlmend.types import Decoding, Example, Image, Message

TAGS = ("<think>", "</think>")
EXAMPLE = Example("e", (Message("user", ("Why?",)),))


def test_more_samples_keep_the_names_of_those_there() -> None:
    few, many = (Decoding(do_sample=True, num_return_sequences=n, first_sample=n // 5) for n in (4, 8))
    assert response_id("m", EXAMPLE, few, 2) == response_id("m", EXAMPLE, many, 2)
    assert len({response_id("m", EXAMPLE, many, sample) for sample in range(8)}) == 8


def asked(*parts: str | Image, name: str = "e") -> Example:
    return Example(name, (Message("user", parts),), ("Because.",))


def test_an_answer_belongs_to_what_was_shown_and_asked_and_how() -> None:
    one, other = (Image(make=partial(noise, seed)) for seed in (0, 1))
    plain = asked(one, "Why?")
    how = Decoding(do_sample=True)
    name = response_id("m", plain, how)
    different = [
        response_id("m", example, how)
        for example in (asked(other, "Why?"), asked("Why?"), asked(one, other, "Why?"), asked(other, one, "Why?"))
    ]
    different += [response_id("m", example, how) for example in (asked(one, "How?"), asked("Why?", one))]
    different += [response_id("n", plain, how), response_id("m", plain, replace(how, seed=how.seed + 1))]
    different += [response_id("m", plain, replace(how, max_new_tokens=1)), response_id("m", plain, how, 1)]
    assert len({name, *different}) == 1 + len(different)
    again = replace(asked(Image(make=partial(noise, 0)), "Why?", name="other"), answers=("None.",), cluster="c")
    assert response_id("m", again, how) == name, "an id or a label changes nothing about what was asked"


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
