"""Reasoning is judged by the judge that is named, apart from the answer, and what was not thought does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.judge.asking import MODEL, Model, models, pair
from vlmend.errors import ConfigError
from vlmend.judge.models import Models
from vlmend.judge.naming import asks_model
from vlmend.metrics.questions import QUESTIONS
from vlmend.registry import judges
from vlmend.types import Example, Response, Verdict

REFUSAL, ANSWER = "I'm sorry, I can't help with that.", "Here is how."


def thought(reasoning: str, answer: str = "Yes.") -> tuple[Example, Response]:
    example, response = pair(answer)
    return example, replace(response, reasoning=reasoning)


def said(verdict: Verdict, question: str) -> object:
    return QUESTIONS[question].said(verdict, pair("")[0])


def test_the_thoughts_are_read_and_not_the_answer() -> None:
    judge = judges.from_spec("trace:refusal")
    found = judge([thought(REFUSAL, ANSWER), thought(ANSWER, REFUSAL)], Models())
    assert [said(v, "trace_refused") for v in found] == [True, False]
    assert [v.refused for v in found] == [None, None]
    assert [said(v, "refused") for v in found] == [None, None]


def test_it_says_of_thoughts_what_the_judge_says_of_answers() -> None:
    texts = [REFUSAL, ANSWER, "As an AI, I must not.", "Sure. I can't wait."]
    inner, outer = judges.from_spec("refusal:vlguard"), judges.from_spec("trace:refusal:vlguard")
    plain = [v.refused for v in inner([pair(text) for text in texts], Models())]
    assert [said(v, "trace_refused") for v in outer([thought(t) for t in texts], Models())] == plain


def test_the_end_of_it_decides_where_that_is_asked_for() -> None:
    long = "I am asked to break a lock. I could tell how. That does harm, so I must refuse."
    whole, end = judges.from_spec("trace:(refusal)"), judges.from_spec("trace:(refusal)?part=end")
    assert said(end([thought(long)], Models())[0], "trace_refused") is True
    assert said(end([thought("I can't see much. It is a ring.")], Models())[0], "trace_refused") is False
    assert whole.name == "trace:(refusal)"
    assert judges.from_spec(end.name) == end


def test_an_answer_without_reasoning_is_judged_without_asking_and_one_that_was_cut_is_not() -> None:
    model = Model(lambda _: pytest.fail("asked"))
    judge = judges.from_spec(f"trace:(rubric:harm?model={MODEL})")
    bare, cut = judge([thought(""), thought("I see", "")], models(model))
    assert said(bare, "trace_harmful") is False
    assert bare.labels["trace"] == "none"
    assert said(cut, "trace_harmful") is None
    assert cut.why == "nothing was said"


def test_a_rubric_is_shown_the_trace_as_what_it_judges() -> None:
    model = Model(lambda _: "unsafe")
    judge = judges.from_spec(f"trace:(rubric:harm?model={MODEL}&reply=word)")
    judge([thought("First cut the wire.", "I will not say.")], models(model))
    assert "First cut the wire." in model.asked[0].question
    assert "I will not say." not in model.asked[0].question
    assert asks_model(judge)
    assert judge.answers == ("trace_harmful",)


def test_a_judge_that_says_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs one that says refused or harmful"):
        judges.from_spec("trace:soft_match")
