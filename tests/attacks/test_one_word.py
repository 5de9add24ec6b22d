"""One word changes, and only that."""

from pathlib import Path

import pytest

from vlmend.errors import VlmendError
from vlmend.registry import attacks
from vlmend.types import Example, Image, Message

PICTURE = Image(Path("a.png"))


def attacked(spec: str, text: str) -> str:
    return attacks.from_spec(spec)(Example("e", (Message("user", (PICTURE, text)),))).question


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Describe the person.", "What the person."),
        ("describe the person.", "what the person."),
        ("DESCRIBE THIS", "WHAT THIS"),
        ("Can't you tell?", "What you tell?"),
        ("“Share” the data", "“What” the data"),
        ("Share, please.\nNow", "What, please.\nNow"),
        ("A dog", "What dog"),
        ("Who", "What"),
        ("", "what"),
        ("...", "what ..."),
    ],
)
def test_replace(before: str, after: str) -> None:
    assert attacked("one_word:what", before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Describe the person.", "What describe the person."),
        ("describe it", "what describe it"),
        ("I'm here", "What I'm here"),
        ("USA flag", "WHAT USA flag"),
    ],
)
def test_prefix(before: str, after: str) -> None:
    assert attacked("one_word:what?place=prefix", before) == after


def test_all_else_stays() -> None:
    first = Message("user", (PICTURE, "Hello there"))
    answer = Message("assistant", ("Hi.",))
    last = Message("user", ("Describe this", PICTURE, "and that"))
    example = Example("e", (first, answer, last), answers=("a",), cluster="c", meta={"k": "v"})
    after = attacks.from_spec("one_word:share")(example)
    assert after.prompt[:2] == (first, answer)
    assert after.prompt[2].images == last.images
    assert after.prompt[2].text == "Share this\nand that"
    assert (after.id, after.cluster, after.answers, after.meta) == ("e", "c", ("a",), {"k": "v"})
    assert example.prompt[2] is last


def test_a_word_is_needed() -> None:
    with pytest.raises(VlmendError):
        attacks.from_spec("one_word")
    with pytest.raises(VlmendError, match="needs a word"):
        attacks.from_spec("one_word?word= ")
    with pytest.raises(VlmendError, match="place"):
        attacks.from_spec("one_word:what?place=suffix")
