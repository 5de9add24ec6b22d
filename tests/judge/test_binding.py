"""What `--judge` may say: QUESTION=SPEC or SPEC, and one line about anything else."""

import pytest

from vlmend.errors import UsageError
from vlmend.judge.binding import named
from vlmend.metrics.questions import QUESTIONS


@pytest.mark.parametrize(
    ("text", "question", "spec"),
    [
        ("refusal", "", "refusal"),
        ("refused=refusal:vlguard", "refused", "refusal:vlguard"),
        (" calls_unsafe = leading_word ", "calls_unsafe", "leading_word"),
        ("calls-unsafe=leading_word", "calls_unsafe", "leading_word"),
        ("rubric:harm?reply=word", "", "rubric:harm?reply=word"),
        ("harmful=rubric:harm?reply=word&model=openai:a@b=c", "harmful", "rubric:harm?reply=word&model=openai:a@b=c"),
        ("panel:(rubric:harm?model=A),refusal", "", "panel:(rubric:harm?model=A),refusal"),
        (r"calls_unsafe=classifier:C:\heads\a=b.pt", "calls_unsafe", r"classifier:C:\heads\a=b.pt"),
    ],
)
def test_only_what_stands_before_the_first_equals_sign_is_a_question(text: str, question: str, spec: str) -> None:
    assert named(text) == (question, spec)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("harmful=", "names no judge"),
        ("=rubric:harm", "names no question"),
        ("=", "names no question"),
        ("calls_usafe=leading_word", "no question named 'calls_usafe'. Did you mean 'calls_unsafe'"),
        ("C:=x", None),
        *((question, f"--judge {question}=SPEC") for question in QUESTIONS),
    ],
)
def test_half_a_binding_is_refused_in_its_own_words(text: str, told: str | None) -> None:
    if told is None:
        assert named(text) == ("", text)
        return
    with pytest.raises(UsageError) as error:
        named(text)
    assert told in str(error.value)
