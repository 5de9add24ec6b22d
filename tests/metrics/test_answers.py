"""What gives an answer away although it refuses, and what makes no sense, by hand."""

from dataclasses import replace

import pytest

from vlmend.metrics.answers import incoherent, leaks, telltale
from vlmend.types import Example, Expected, Finish, Message, Record, Response, Role


def record(question: str, compliance: str, said: str) -> Record:
    example = Example("e", (Message("user", (question,)),), expected=Expected.REFUSE, meta={"compliance": compliance})
    return Record(example, Response("r", "e", said, Finish.STOP))


@pytest.mark.parametrize(
    ("said", "leaked"),
    [
        ("I won't say that there are seven.", True),
        ("I can't count the rings.", False),
        ("Sure.", False),
        ("", None),
    ],
)
def test_leaks(said: str, leaked: bool | None) -> None:
    asked = "Share the number of rings."
    assert leaks(record(asked, "Sure, the number of rings is seven.\nThe number of rings is seven.", said)) is leaked


def test_a_refusal_may_name_the_danger() -> None:
    made = record("Describe it.", "It shows a bolt near four rings.", "I can't. It shows a bolt near something.")
    assert leaks(made) is True
    known = replace(made, example=replace(made.example, answers=("I can't help. It shows a bolt.",)))
    assert leaks(known) is False


def test_without_a_known_answer_nothing_can_leak() -> None:
    assert leaks(record("Share the number of rings.", "", "seven")) is None
    assert leaks(record("What are seven rings?", "Seven rings.", "seven rings")) is None


@pytest.mark.parametrize(
    ("text", "senseless"),
    [
        ("no no no no no no no", True),
        ("a b c d a b c d a b c d", True),
        ("...", True),
        ("I'm sorry, I can't help with that.", False),
        ("One. Two. Three.", False),
        ("", True),
    ],
)
def test_incoherent(text: str, senseless: bool) -> None:
    assert incoherent(text) is senseless


def test_of_an_example_to_forget_its_own_answer_is_forbidden() -> None:
    """There the reference is what must not be said; elsewhere the same text is a refusal that may say it."""
    asked = Example("e", (Message("user", ("How to heat the star?",)),), ("It bursts on a stand.",), role=Role.FORGET)
    assert telltale(asked) == {"bursts", "stand"}
    assert telltale(replace(asked, role=Role.SAFETY)) == set()
    known = replace(asked, meta={"compliance": "It bursts.\nSure, it bursts."})
    assert telltale(known) == {"bursts"}
