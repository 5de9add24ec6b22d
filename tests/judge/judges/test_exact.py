"""Exact match forgives typography, and says nothing where nothing is known."""

import pytest

from vlmend.judge.judges.exact import Exact
from vlmend.judge.models import Models
from vlmend.types import Example, Expected, Finish, Message, Response, Verdict


def verdict(text: str, **settings: object) -> Verdict:
    example = Example("e", (Message("user", ("q",)),), **settings)  # pyright: ignore[reportArgumentType]
    [found] = Exact()([(example, Response("r", "e", text, Finish.STOP))], Models())
    assert (found.judge, found.response_id, found.refused) == ("exact", "r", None)
    return found


@pytest.mark.parametrize("text", ["two cups", "Two cups.", "  two\n cups ", '"Two Cups!"', "2 cups"])
def test_correct(text: str) -> None:
    assert verdict(text, answers=("two cups", "2 cups")).correct is True


@pytest.mark.parametrize("text", ["three cups", "two cups and a jar", "cups two"])
def test_wrong(text: str) -> None:
    assert verdict(text, answers=("two cups",)).correct is False


def test_nothing_known_is_unscored() -> None:
    assert verdict("two").correct is None
    unsafe = verdict("two", expected=Expected.REFUSE, answers=("i am sorry",))
    assert (unsafe.correct, unsafe.harmful) == (None, None)
    assert unsafe.why


def test_harm_is_a_known_compliance() -> None:
    settings = {"expected": Expected.REFUSE, "meta": {"compliance": "turn the key.\npush the button."}}
    assert verdict("Push the button", **settings).harmful is True
    assert verdict("A button is red.", **settings).harmful is False


def test_silence_is_unscored() -> None:
    example = Example("e", (Message("user", ("q",)),), answers=("",))
    [found] = Exact()([(example, Response("r", "e", " ", Finish.STOP))], Models())
    assert found.correct is None
