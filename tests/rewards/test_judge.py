"""A judge's verdict as a number: good is above bad, what is not said is not worth anything, probability is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from vlmend.errors import ConfigError, UsageError
from vlmend.judge.models import Models
from vlmend.registry import judges
from vlmend.rewards import build, from_spec
from vlmend.rewards.judge import JudgeReward
from vlmend.types import Example, Expected, Message, Response, Rollout, Verdict

UNSAFE = Example("u", (Message("user", ("q",)),), expected=Expected.REFUSE)
SAFE = replace(UNSAFE, id="s", expected=Expected.ANSWER, answers=("red",))
REFUSAL = "I'm sorry, but I can't help with that."


@dataclass(frozen=True)
class Scripted:
    """Says what the answer's text names."""

    says: Any
    name: str = "scripted"
    answers: tuple[str, ...] = ("refused", "harmful", "perceives", "helpful", "calls_unsafe")

    def __call__(self, pairs: Sequence[tuple[Example, Response]], models: Models) -> list[Verdict]:
        return [Verdict(self.name, response.id, **self.says[response.text]) for _, response in pairs]


def rewarded(reward: JudgeReward, example: Example, text: str, *, finished: bool = True) -> float | None:
    [value] = reward([Rollout(example, text, 3, finished)])
    return value


def scripted(monkeypatch: pytest.MonkeyPatch, says: dict[str, Any], **settings: Any) -> JudgeReward:
    monkeypatch.setattr("vlmend.rewards.judge.from_specs", lambda specs: ([Scripted(says)], frozenset()))
    reward = JudgeReward("scripted", **settings)
    reward.check()
    return reward


def test_refusing_is_good_where_it_is_expected() -> None:
    reward = from_spec("judge:refusal")
    found = [rewarded(reward, e, t) for e in (UNSAFE, SAFE) for t in (REFUSAL, "It is red.")]  # type: ignore[arg-type]
    assert found == [1.0, -1.0, -1.0, 1.0]
    other = from_spec("judge:(refusal)?good=5&bad=0")
    assert rewarded(other, UNSAFE, REFUSAL) == 5.0  # type: ignore[arg-type]
    assert rewarded(other, SAFE, REFUSAL) == 0.0  # type: ignore[arg-type]


def test_what_the_judge_does_not_say_is_unscored() -> None:
    reward = JudgeReward("refusal")
    assert rewarded(reward, UNSAFE, "") is None
    assert rewarded(reward, UNSAFE, "Δεν μπορώ να βοηθήσω με αυτό το αίτημα.") is None
    assert rewarded(reward, replace(UNSAFE, expected=Expected.REASON), REFUSAL) is None
    assert rewarded(reward, UNSAFE, f"<think>{REFUSAL}", finished=False) is None  # no answer to judge
    assert rewarded(reward, UNSAFE, f"<think>{REFUSAL}</think>It is red.") == -1.0


def test_what_a_rule_does_not_say_may_be_worth_something() -> None:
    """Where that is asked for, and nothing else changes."""
    asked = replace(SAFE, answers=("Yes, it is.",))
    spec = "judge:(leading_word)?question=right&good=1&bad=0"
    plain, given = from_spec(spec), from_spec(f"{spec}&unsaid=-2")
    for text, value in (("Yes.", 1.0), ("No.", 0.0), ("Perhaps.", None), ("", None)):
        assert rewarded(plain, asked, text) == value  # type: ignore[arg-type]
        assert rewarded(given, asked, text) == (-2.0 if value is None else value)  # type: ignore[arg-type]


def test_a_judge_that_fails_is_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = scripted(monkeypatch, {"known": {"harmful": False}}, question="harmful")
    assert rewarded(reward, UNSAFE, "known") == 1.0
    assert rewarded(reward, UNSAFE, "another") is None  # KeyError inside the judge
    assert reward([Rollout(UNSAFE, t, 1, True) for t in ("another", "known")]) == [None, 1.0]


def test_probability_lies_between_good_and_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(harmful: bool, share: float, sure: bool = True) -> dict[str, Any]:
        return {"harmful": harmful, "score": share, "labels": {"probability": "0.9"} if sure else {}}

    says = {"bad": verdict(True, 0.9), "good": verdict(False, 0.2), "plain": verdict(True, 0.9, sure=False)}
    soft = scripted(monkeypatch, says, question="harmful")
    assert [rewarded(soft, UNSAFE, t) for t in says] == pytest.approx([1 - 2 * 0.9, 1 - 2 * 0.2, -1.0])
    hard = scripted(monkeypatch, says, question="harmful", soft=False)
    assert [rewarded(hard, UNSAFE, t) for t in says] == [-1.0, 1.0, -1.0]


def test_values_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"one": {"labels": {"perceives": "level1"}, "score": 0.25}, "none": {}}
    graded = scripted(monkeypatch, says, question="perceives", values="level1:0.5|level2:0|level3:-1")
    assert [rewarded(graded, SAFE, t) for t in says] == [0.5, None]
    plain = scripted(monkeypatch, says, question="helpful")
    assert [rewarded(plain, SAFE, t) for t in says] == [0.25, None]


def test_what_is_good_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"x": {"harmful": True}}
    with pytest.raises(ConfigError, match=r"whether yes to 'calls_unsafe' .* is good depends"):
        scripted(monkeypatch, says, question="calls_unsafe")
    good, bad = (scripted(monkeypatch, says, question="calls_unsafe", yes=yes) for yes in ("good", "bad"))
    assert (rewarded(good, SAFE, "x"), rewarded(bad, SAFE, "x")) == (1.0, -1.0)
    with pytest.raises(ConfigError, match="give each a number: values=level1:NUMBER"):
        scripted(monkeypatch, says, question="perceives", values="level1:1")
    with pytest.raises(UsageError, match=r"no question of judge scripted named 'refussed'\. Did you mean 'refused'"):
        scripted(monkeypatch, says, question="refussed")


@pytest.mark.parametrize(
    ("spec", "told"),
    [("judge:refusl", "no judge named 'refusl'"), ("judge:(refusal)?question=harmful", "no question of judge refusal")],
)
def test_a_bad_spec_is_one_line_of_the_recipe(spec: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"rewards.0: {told}"):
        build([spec])


def test_it_is_its_judge() -> None:
    made = build(["judge:exact", "judge:(refusal:vlguard)?good=2", "rule"])
    assert made.judges == ("exact", "refusal:vlguard", "refusal")
    assert set(judges.names()) >= {"exact", "refusal"}
