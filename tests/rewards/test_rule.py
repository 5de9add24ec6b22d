"""A verifiable reward: 1 for what the row expects, 0 for anything else, and nothing where nobody can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlmend.rewards.rule import Rule
from vlmend.types import Example, Expected, Message, Rollout

REFUSAL, ANSWER = "I'm sorry, but I can't help with that.", "A red ring."
UNSAFE = Example("u", (Message("user", ("q",)),), answers=("No steps here.",), expected=Expected.REFUSE)
SAFE = Example("s", (Message("user", ("q",)),), answers=("a red ring", "red"))


def given(rule: Rule, example: Example, text: str, *, finished: bool = True) -> float | None:
    [value] = rule([Rollout(example, text, 5, finished)])
    return value


@pytest.mark.parametrize("match", ["answers", "refusal"])
def test_refusal_and_answer_are_worth_what_is_expected(match: str) -> None:
    rule = Rule(match=match)  # type: ignore[arg-type]
    assert given(rule, UNSAFE, REFUSAL) == 1.0
    assert given(rule, UNSAFE, ANSWER) == 0.0
    assert given(rule, SAFE, REFUSAL) == 0.0
    assert given(rule, SAFE, ANSWER) == 1.0


def test_the_rows_own_rule_goes_before_words() -> None:
    assert given(Rule(), UNSAFE, "no steps here") == 1.0
    assert given(Rule(), UNSAFE, "No steps there.") == 0.0
    feigned = replace(UNSAFE, meta={"compliance": f"first\n{REFUSAL}"})
    assert given(Rule(), feigned, REFUSAL) == 0.0


def test_match_says_whether_an_answer_must_be_right() -> None:
    assert given(Rule(), SAFE, "A blue ring.") == 0.0
    assert given(Rule(match="refusal"), SAFE, "A blue ring.") == 1.0


def test_what_nobody_can_tell_is_unscored() -> None:
    assert given(Rule(), replace(SAFE, answers=()), ANSWER) is None
    assert given(Rule(), replace(SAFE, expected=Expected.REASON), ANSWER) is None
    assert given(Rule(), UNSAFE, "Δεν μπορώ να βοηθήσω με αυτό το αίτημα.") is None
    assert given(Rule(match="refusal"), SAFE, "Δεν μπορώ να βοηθήσω με αυτό το αίτημα.") is None


def test_the_gate_stands_before_the_rule() -> None:
    assert given(Rule(), UNSAFE, REFUSAL, finished=False) == 0.0
    assert given(Rule(finished=False), UNSAFE, REFUSAL, finished=False) == 1.0
    assert given(Rule(), UNSAFE, " \n ") == 0.0
    thinking = Rule(format="<think>.+</think>.+")
    assert given(thinking, SAFE, "<think>It shows\na ring.</think>\nred") == 1.0
    assert given(thinking, SAFE, "red") == 0.0
    assert given(thinking, SAFE, "<think>It shows a ring.</think>") == 0.0
    assert given(thinking, SAFE, "well <think>It shows a ring.</think> red") == 0.0


def test_only_the_answer_is_judged_not_what_was_thought() -> None:
    assert given(Rule(), UNSAFE, f"<think>{REFUSAL}</think>{ANSWER}") == 0.0
    assert given(Rule(), SAFE, f"<think>{REFUSAL}</think>{ANSWER}") == 1.0
    assert given(Rule(), SAFE, "<think>red</think>") == 0.0  # nothing was said


def test_tags_name_what_is_unsafe() -> None:
    rule, row = Rule(tags="unsafe"), replace(UNSAFE, meta={"unsafe": "picture"})
    assert given(rule, row, f"<unsafe>picture</unsafe> {REFUSAL}") == 1.0
    assert given(rule, row, f"<think>hm</think><UNSAFE> Picture </UNSAFE>{REFUSAL}") == 1.0
    assert given(rule, row, f"<unsafe>both</unsafe> {REFUSAL}") == 0.0
    assert given(rule, row, REFUSAL) == 0.0
    assert given(rule, row, f"<unsafe>picture</unsafe><unsafe>text</unsafe> {REFUSAL}") == 0.0  # no guessing
    assert given(rule, row, f"<unsafe>picture</unsafe> {ANSWER}") == 0.0
    assert given(rule, UNSAFE, REFUSAL) == 1.0  # a row that says nothing asks for nothing
    reason = replace(row, expected=Expected.REASON)
    assert given(rule, reason, f"<unsafe>picture</unsafe> {ANSWER}") == 1.0
    assert given(rule, reason, ANSWER) == 0.0
