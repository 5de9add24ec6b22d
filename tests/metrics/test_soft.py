"""VQA's soft accuracy, by hand, by its closed form, and by what the published evaluation says of equal answers."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from vlmend.metrics.soft import CONTRACTIONS, plain, soft_accuracy

PLAIN = {
    "The dog.": "dog",
    "a  Red\nball!": "red ball",
    "Two dogs": "2 dogs",
    "none": "0",
    "dont": "don't",
    "couldnt've": "couldn't've",
    "couldn'tve": "couldn't've",
    "girl's": "girl's",
    "100,978": "100978",
    "2:50 pm": "2:50 pm",
    "3.5 m.": "3.5 m",
    "black-white": "black white",
    "yes, it is": "yes it is",
    "well": "well",
    "were": "were",
    "its": "its",
    "Maam": "ma'am",
    "oclock": "o'clock",
    "": "",
}


@pytest.mark.parametrize(("text", "made"), PLAIN.items())
def test_answers_are_made_plain(text: str, made: str) -> None:
    assert plain(text) == made


def test_plain_answers_stay_as_they_are() -> None:
    for text in (*PLAIN.values(), *CONTRACTIONS.values()):
        assert plain(text) == text


@pytest.mark.parametrize(("agree", "made"), [(0, "0"), (1, "3/10"), (2, "6/10"), (3, "9/10"), (4, "1"), (10, "1")])
def test_accuracy_by_how_many_of_ten_agree(agree: int, made: str) -> None:
    """As everyone quotes it: 0.3, 0.6, 0.9, then 1."""
    assert soft_accuracy("red", ["red"] * agree + ["blue"] * (10 - agree)) == pytest.approx(float(Fraction(made)))


def test_accuracy_is_its_closed_form_whatever_the_number_of_annotators() -> None:
    drawn = random.Random(0)
    for _ in range(200):
        n = drawn.randint(2, 12)
        given = [drawn.choice(["red", "the red", "Red.", "blue"]) for _ in range(n)]
        m = sum("red" in text.lower() for text in given)
        expected = Fraction(m * min(3, max(m - 1, 0)) + (n - m) * min(3, m), 3 * n)
        assert soft_accuracy("RED", given) == pytest.approx(float(expected))


def test_order_of_annotators_and_spelling_of_the_answer_do_not_matter() -> None:
    given = ["two", "2", "three", "a pair", "2", "two.", "none", "2", "3", "II"]
    drawn = random.Random(1).sample(given, len(given))
    assert soft_accuracy("2", given) == soft_accuracy("Two.", drawn) == 1


def test_one_annotator_cannot_be_left_out() -> None:
    assert soft_accuracy("red", ["red"]) is None
    assert soft_accuracy("red", []) is None


def test_as_coded_compares_letters_where_all_agree_and_only_there() -> None:
    assert soft_accuracy("Yes.", ["yes"] * 10) == 1
    assert soft_accuracy("Yes.", ["yes"] * 10, as_coded=True) == 0
    assert soft_accuracy("yes\n", ["yes"] * 10, as_coded=True) == 1
    assert soft_accuracy("Yes.", ["yes"] * 9 + ["no"], as_coded=True) == 1
