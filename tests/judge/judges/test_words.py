"""Judges that read a word or an option: whole words, one option, and silence where it is not plain."""

from collections.abc import Mapping

import pytest

from tests.judge.asking import pair
from vlmend.judge.judges.choice import Choice, options, picked
from vlmend.judge.judges.leading_word import LeadingWord
from vlmend.judge.models import Models
from vlmend.judge.words import leading_letter, leading_yes_no
from vlmend.types import Verdict


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Yes", "yes"), ("yes, it is", "yes"), ("**No**, never", "no"), ("No.", "no"), (" \n\"No\" is right", "no"),
        ("NO!", "no"), ("No\nbecause", "no"),
        ("Norway is cold", ""), ("Not sure", ""), ("Yesterday", ""), ("None", ""), ("no-one knows", ""),
        ("I say yes", ""), ("", ""), ("Know", ""), ("No's", ""),
    ],
)  # fmt: skip
def test_leading_yes_no(text: str, word: str) -> None:
    assert leading_yes_no(text) == word


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("B.", "B"), ("(C) a cat", "C"), ("A: yes", "A"), ("A is right", "A"), ("Option D", "D"),
        ("**A**", "A"), ("A\nbecause", "A"), ("[B]", "B"),
        ("A cat is there", ""), ("Blue", ""), ("b", ""), ("I see a cat", ""), ("Answer: B", ""), ("", ""),
    ],
)  # fmt: skip
def test_leading_letter(text: str, letter: str) -> None:
    assert leading_letter(text) == letter


def one(judge: LeadingWord | Choice, text: str, **settings: object) -> Verdict:
    [verdict] = judge([pair(text, **settings)], Models())
    return verdict


def test_leading_word_judges_against_the_reference() -> None:
    judge = LeadingWord()
    assert one(judge, "No, it is not.", answers=("No. It shows a knife.",)).correct is True
    assert one(judge, "Yes!", answers=("No",)).correct is False
    other = one(judge, "Norway", answers=("No",))
    assert (other.correct, other.why) == (None, "it leads with another word")
    unknown = one(judge, "Yes", answers=("Maybe",))
    assert (unknown.correct, unknown.labels["word"]) == (None, "yes")
    assert LeadingWord("letter").name == "leading_word:letter"
    assert one(LeadingWord("letter"), "B.", answers=("B. a cat", "B")).correct is True


QUESTION = "What is it?\nA. a cat\nB. a cat toy\nC. None of these\nD. a dog"
KNOWN: Mapping[str, str] = {"A": "a cat", "B": "a cat toy", "C": "None of these", "D": "a dog"}


@pytest.mark.parametrize("form", ["{}. {}", "{}: {}", "({}) {}"])
def test_options_are_found(form: str) -> None:
    lines = "\n".join(form.format(*item) for item in KNOWN.items())
    example, _ = pair("x", question=f"What is it?\n{lines}\nAnswer with a letter.")
    assert options(example) == KNOWN
    assert options(pair("x", question="What?", meta={"options": lines})[0]) == KNOWN
    assert options(pair("x", question="What? A. cat")[0]) == {}
    assert options(pair("x", question="B. cat\nC. dog")[0]) == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"), ("(B) a cat toy", "B"), ("The answer is D.", "D"), ("I would choose option (A).", "A"),
        ("a cat", "A"), ("It is a cat toy.", "B"), ("It is a cat.", "A"), ("None of these", "C"), ("A DOG!", "D"),
        ("It is a catfish", ""), ("Z", ""), ("I do not know", ""), ("", ""),
        ("either a cat or a dog", "AD"), ("Answer: A. No wait, answer: B", "AB"), ("A dog sits there", "D"),
    ],
)  # fmt: skip
def test_what_is_picked(text: str, found: str) -> None:
    assert "".join(sorted(picked(text, KNOWN))) == found


def test_choice() -> None:
    judge = Choice()
    assert one(judge, "B", question=QUESTION, answers=("B. a cat toy", "B", "a cat toy")).correct is True
    assert one(judge, "a dog", question=QUESTION, meta={"letter": "B"}).correct is False
    two = one(judge, "a cat or a dog", question=QUESTION, answers=("B",))
    assert (two.correct, two.why) == (None, "it picks A, D of 4 options")
    assert one(judge, "B", question="What is it?", answers=("B",)).why == "the question has no lettered options"
    assert one(judge, "B", question=QUESTION).labels["choice"] == "B"
