"""Majorities, and a dear judge that is asked only where it is needed."""

from dataclasses import replace
from itertools import permutations, product

import pytest

from tests.judge.asking import MODEL, Model, models, pair
from vlmend.errors import ConfigError, UsageError
from vlmend.judge.judges.panel import all_of, any_of, majority
from vlmend.judge.models import Models
from vlmend.judge.naming import about, asks_model, parts
from vlmend.judge.verdicts import from_specs, verdicts
from vlmend.metrics.questions import QUESTIONS
from vlmend.registry import Spec, judges

VOTES = [list(v) for n in (2, 3, 4) for v in product([True, False, None], repeat=n)]


@pytest.mark.parametrize("rule", [majority, any_of, all_of])
def test_rules_are_blind_to_order_and_fair(rule: object) -> None:
    assert callable(rule)
    for votes in VOTES:
        assert len({rule(list(p)) for p in permutations(votes)}) == 1
        if len(set(votes)) == 1:
            assert rule(votes) is votes[0]
    other = {any_of: all_of, all_of: any_of, majority: majority}[rule]
    for votes in VOTES:
        opposite = [None if v is None else not v for v in votes]
        found = other(opposite)
        assert rule(votes) is (None if found is None else not found)


def test_an_abstention_is_no_vote() -> None:
    assert majority([True, None]) is None
    assert majority([True, True, None]) is True
    assert majority([False, None, None]) is None
    assert any_of([False, None]) is None
    assert all_of([True, None]) is None


REFUSAL, ANSWER = "I'm sorry, I can't help with that.", "Here is how to legally change your name."


def test_panel_of_rules() -> None:
    judge = judges.from_spec("panel:refusal,refusal:vlguard,refusal:safety_mirage")
    found = judge([pair(REFUSAL), pair(ANSWER), pair("A cat."), pair("")], Models())
    assert [v.refused for v in found] == [True, True, False, None]
    assert found[1].labels["votes.refused"] == "no yes yes"
    assert found[1].score == pytest.approx(2 / 3)
    assert [v.refused for v in judges.from_spec("panel:refusal,refusal:vlguard")([pair(ANSWER)], Models())] == [None]
    assert judge.name == "panel:refusal,refusal:vlguard,refusal:safety_mirage"
    assert "list vlguard/2402.02207" in judge.about(Models())["members"]


def test_members_with_options() -> None:
    spec = f"panel:(rubric:harm?model={MODEL}&reply=word),(guard:{MODEL}),(rubric:tone?model={MODEL})?rule=any"
    assert Spec.parse(spec).options == (("rule", "any"),)
    judge = judges.from_spec(spec)
    assert judge.name == spec
    model = Model(lambda text: "unsafe" if "one word" in text else "safe" if "judge" not in text else "no")
    [verdict] = judge([pair("x")], models(model))
    assert (verdict.harmful, verdict.refused) == (True, None)
    assert verdict.labels["votes.harmful"] == "yes no –"
    assert verdict.labels["votes.refused"] == "– – no"
    assert parts("a,(b:c,d?x=(e)),f") == ("a", "b:c,d?x=(e)", "f")


def test_a_panel_of_silence_says_why() -> None:
    model = Model(lambda _: "hm")
    judge = judges.from_spec(f"panel:(rubric:harm?model={MODEL}),(guard:{MODEL})")
    [verdict] = judge([pair("x")], models(model))
    assert (verdict.harmful, verdict.score) == (None, None)
    assert "unreadable" in verdict.why


def test_cascade_asks_the_dear_judge_only_where_needed() -> None:
    model = Model(lambda text: '{"verdict": "unsafe"}' if "step" in text.split("[[answer")[1] else "hm")
    judge = judges.from_spec("cascade:refusal,rubric:harm?ask=not_refused")
    found = judge([pair(REFUSAL), pair("step one"), pair("A cat."), pair("")], models(model))
    assert [v.harmful for v in found] == [False, True, None, None]
    assert [v.refused for v in found] == [True, False, None, None]
    assert len(model.asked) == 2
    assert [v.labels.get("by") for v in found] == ["refusal", "rubric:harm", "rubric:harm", None]
    assert {v.judge for v in found} == {judge.name}


def test_cascade_asks_where_the_first_is_unsure() -> None:
    model = Model(lambda _: '{"refusal": "yes"}')
    judge = judges.from_spec("cascade:exact,rubric:tone")
    found = judge([pair("a", answers=("a",)), pair("b")], models(model))
    assert [(v.correct, v.refused) for v in found] == [(True, None), (None, True)]
    assert len(model.asked) == 1
    two = judges.from_spec("cascade:(panel:refusal,refusal:vlguard),rubric:tone?low=0.4&high=0.6")
    [split] = two([pair(ANSWER)], models(model))
    assert split.refused is True


def test_what_cannot_be_meant() -> None:
    for spec in (
        "panel:refusal",
        "cascade:refusal",
        "cascade:refusal,exact,refusal:vlguard",
        "cascade:refusal,exact?low=1",
    ):
        with pytest.raises(ConfigError):
            judges.from_spec(spec)
    with pytest.raises(ConfigError, match="judge 'panel': no judge named 'nobody'"):
        judges.from_spec("panel:refusal,nobody")


@pytest.mark.parametrize(
    ("spec", "answers"),
    [
        ("panel:refusal,refusal:vlguard", ("refused",)),
        ("panel:refusal,guard:M", ("refused", "harmful", "calls_unsafe")),
        ("panel:exact,leading_word", ("harmful", "right", "calls_unsafe")),
        ("panel:(rubric:sarr),memory", ("normal",)),  # members vote on yes or no only
        ("cascade:refusal,rubric:mis", ("refused", "harmful", "perceives")),
        ("cascade:(panel:refusal,refusal:vlguard),pairwise", ("refused", "better")),
    ],
)
def test_what_they_answer_is_what_their_members_do(spec: str, answers: tuple[str, ...]) -> None:
    assert judges.from_spec(spec).answers == answers


def test_members_vote_on_questions_that_have_no_flag() -> None:
    """Two of three say normal; where one is lost and the others differ, the panel does not say."""
    names = [f"scripted:{name}" for name in "abc"]
    judge = judges.from_spec("panel:" + ",".join(f"(rubric:sarr?model={name})" for name in names))
    votes = {"normal abnormal normal": True, "abnormal normal abnormal": False, "normal abnormal x": None}
    for words, voted in votes.items():
        replies = [f'{{"verdict": "{word}"}}' for word in words.split()]
        said = {name: Model(lambda _, reply=reply: reply) for name, reply in zip(names, replies, strict=True)}
        [verdict] = judge([pair("A cat.")], Models(loaded=said))  # pyright: ignore[reportArgumentType]
        assert QUESTIONS["normal"].said(verdict, pair("A cat.")[0]) is voted
        assert bool(verdict.why) is (voted is None)


def test_a_member_must_not_be_the_reward_nor_the_model_under_test() -> None:
    model = Model(lambda _: "safe")
    tuned = replace(models(model), tested="scripted:it", rewards=("exact",))
    for spec in ("panel:refusal,exact", "cascade:refusal,(panel:exact,refusal)"):
        with pytest.raises(UsageError, match="judge exact was the reward that scripted:it was tuned with"):
            about(judges.from_spec(spec), tuned)
    itself = models(model).testing(MODEL)
    spec = f"panel:(rubric:harm?model={MODEL}),refusal"
    with pytest.raises(UsageError, match="the model under test"):
        about(judges.from_spec(spec), itself)
    [panel], allowed = from_specs([f"{spec}?allow_self=yes"])
    [verdict] = verdicts(panel, [pair("x")], replace(itself, allowed=allowed))
    assert verdict.labels["votes.harmful"] == "no –"


def test_only_a_judge_that_asks_a_model_is_complained_of() -> None:
    specs = ("panel:refusal,exact", "panel:refusal,rubric:tone", "cascade:refusal,exact", "cascade:refusal,guard:M")
    assert [asks_model(judges.from_spec(spec)) for spec in specs] == [False, True, False, True]
