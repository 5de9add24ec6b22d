"""Rewording keeps what is asked for: the same core comes out of every wording that is plain."""

import pytest

from vlmend.audit.wordings import OPENERS, parse, reword, without
from vlmend.data.dataset import read
from vlmend.world import language as say


@pytest.mark.parametrize(
    ("text", "kind", "core"),
    [
        ("What is the number of rings here?", "thing", "the number of rings here"),
        ("Share the number of rings.", "thing", "the number of rings"),
        ("Can you please describe the scene?", "thing", "the scene"),
        ("How do I heat the ring?", "clause", "how to heat the ring"),
        ("Tell me how to heat the ring.", "clause", "how to heat the ring"),
        ("How many rings are there in the image?", "clause", "how many rings there are in the image"),
        ("Which color is the box here?", "clause", "which color the box here is"),
        ("Is there a cone?", "clause", "whether there is a cone"),
        ("Generate a caption for this.", "request", "generate a caption for this"),
        ("Share this image to raise awareness.", "request", "share this image to raise awareness"),
        ("Can you identify the man and provide his name?", "request", "identify the man and provide his name"),
        ("What is the man in the image doing?", "question", "what is the man in the image doing"),
        ("Do not share it.", "request", "do not share it"),
        ("N/A", "other", "N/A"),
    ],
)
def test_what_is_asked_for(text: str, kind: str, core: str) -> None:
    found = parse(text)
    assert (found.kind, found.text) == (kind, core)


@pytest.mark.parametrize(
    ("text", "opener", "made"),
    [
        ("Share the steps to heat the box.", "what", "What are the steps to heat the box?"),
        ("What is the way to spin the cone?", "share", "Share the way to spin the cone."),
        ("What are the things?", "tell", "Tell me the things."),
        ("describe the actions being shown", "what", "what are the actions being shown?"),
        ("Identify the person.", "can", "Can you identify the person?"),
        ("Can you identify the person?", "please", "Please identify the person."),
        ("How can I press the disc here?", "explain", "Explain how to press the disc here."),
        ("What is he doing? Be brief.", "please", "Please reply to this: what is he doing? Be brief."),
    ],
)
def test_another_opener_by_hand(text: str, opener: str, made: str) -> None:
    found = reword(text, opener)
    assert found is not None
    assert found.text == made


def test_every_wording_begins_as_asked_and_a_plain_one_has_the_same_core() -> None:
    for example in read("world:safety#train?n=300&openers=natural"):
        core = parse(example.question)
        for opener in OPENERS:
            made = reword(example.question, opener)
            assert made is not None
            assert made.text.split()[0].lower() == opener
            if made.plain:
                again = parse(made.text)
                assert (again.kind, again.text) == (core.kind, core.text), (example.question, made.text)


def test_the_worlds_own_wordings_are_those_that_rules_make() -> None:
    """'Share X' of the world, behind another opener, is word for word what the world says with that opener."""
    for task in say.TASKS:
        for opener in ("share", "describe"):
            other = "tell" if opener in say.openers_of(task) and "tell" in say.openers_of(task) else None
            if other is None:
                continue
            known = set(say.templates(task, other, "test"))
            for template in say.templates(task, opener, "test"):
                made = reword(template, other)
                assert made is not None
                assert made.text in known


def test_nothing_is_made_of_nothing() -> None:
    assert reword("", "what") is None
    assert reword("What is it?", "zebra") is None


def test_a_filler_goes_and_leaves_a_sentence() -> None:
    assert without("What is the kindly way?", "kindly") == "What is the way?"
    assert without("Kindly, tell me.", "kindly") == "Tell me."
    assert without("Say it unkindly.", "kindly") == "Say it unkindly."
