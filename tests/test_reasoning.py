"""Reasoning is told from the answer in one place, whatever its tags are called, and nothing is lost or made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlmend.reasoning import CUT, KNOWN, Tags, pieces, split, tags_of, told_apart
from vlmend.types import Finish, Response

HARMONY = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"


@pytest.mark.parametrize("tags", KNOWN, ids=lambda tags: tags.opening)
@pytest.mark.parametrize(
    ("said", "reasoning", "answer", "cut"),
    [
        ("{0}a{1}b", "a", "b", False),
        ("\n {0}\na\n{1}\n\nb ", "a", "b", False),
        ("a{1}b", "a", "b", False),
        ("{0}a", "a", "", True),
        ("{0}a{1}", "a", "", False),
        ("{0}{1}b", "", "b", False),
        ("c {0}a{1} b", "a", "c  b", False),
        ("{0}a{1}{0}a", "aa", "", True),
    ],
)
def test_every_known_pair_of_tags(tags: Tags, said: str, reasoning: str, answer: str, cut: bool) -> None:
    text = said.format(tags.opening, tags.closing)
    assert split(text) == (reasoning, answer, cut)
    assert "".join(piece.text for piece in pieces(text)) == text


def test_channels_with_their_control_tokens_and_without() -> None:
    assert split(HARMONY) == ("a", "b", False)
    assert split("<|channel|>analysis<|message|>aassistant<|channel|>final<|message|>b") == ("a", "b", False)
    assert split("<|channel|>final<|message|>b") == ("", "b", False)


def test_case_of_tags_is_no_matter() -> None:
    assert split("<Thinking>a</THINKING>b") == ("a", "b", False)


def test_a_tag_that_is_only_spoken_of_hides_nothing() -> None:
    said = "Open it with <reasoning> and go on: step 1, step 2."
    assert split(said) == ("", said, False)
    assert split("Press [THINK] now.") == ("", "Press [THINK] now.", False)
    assert split("Done.<|end|>") == ("", "Done.<|end|>", False), "closes more than reasoning"


def test_what_the_prompt_opened_is_reasoning_until_it_is_closed() -> None:
    own = tags_of("<why>", "</why>")
    assert split("a</why>b", own, own) == ("a", "b", False)
    assert split("a", own, own) == ("a", "", True)
    assert split("<why>a</why>b", own, own) == ("a", "b", False)
    assert split("a <why>b", own) == ("b", "a", True)


SAID = Response("r", "e", "<thinking>I can't help.</thinking>Sure!", Finish.STOP, tokens=3)


def test_a_response_is_told_apart_once() -> None:
    found = told_apart(SAID)
    assert (found.text, found.reasoning, found.finish, found.tokens) == ("Sure!", "I can't help.", Finish.STOP, 3)
    assert told_apart(found) == found
    plain = replace(SAID, text="  Sure! ")
    assert told_apart(plain) == plain


@pytest.mark.parametrize("finish", [Finish.STOP, Finish.LENGTH])
def test_a_response_that_ends_inside_its_reasoning_is_no_answer_and_says_why(finish: Finish) -> None:
    found = told_apart(replace(SAID, text="<think>I'm sorry, I can't", finish=finish))
    assert (found.text, found.reasoning) == ("", "I'm sorry, I can't")
    assert (found.finish, found.why, found.said) == (Finish.LENGTH, CUT, False)
    assert told_apart(found) == found


def test_what_was_blocked_or_failed_stays_as_it_is() -> None:
    for finish in (Finish.BLOCKED, Finish.FAILED):
        failed = replace(SAID, finish=finish, why="no")
        assert told_apart(failed) == failed
