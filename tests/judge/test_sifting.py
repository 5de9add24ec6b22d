"""What counts as said: whatever answers a question, by a flag, a number or a label."""

import pytest

from vlmend.judge.sifting import scored
from vlmend.metrics.questions import QUESTIONS
from vlmend.types import Verdict


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_label_that_answers_a_question_says_something(question: str) -> None:
    for value in QUESTIONS[question].values or ("0.5",):
        assert scored(Verdict("j", "r", labels={"version": "j/1", question: value}))


@pytest.mark.parametrize(
    "labels", [{}, {"version": "j/1", "model": "m"}, {"calls_unsafe": "maybe"}, {"agrees": "much"}]
)
def test_other_labels_say_nothing(labels: dict[str, str]) -> None:
    assert not scored(Verdict("j", "r", labels=labels))


def test_flags_and_numbers_say_something_and_no_verdict_does_not() -> None:
    assert scored(Verdict("j", "r", refused=False))
    assert scored(Verdict("j", "r", score=0.0))
    assert not scored(None)
