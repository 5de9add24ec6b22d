"""Known controls: a judge that says one thing of everything is found out before it is asked anything that counts."""

from __future__ import annotations

import json

import pytest

from tests.judge.asking import Model, Weigher, models
from vlmend.judge import controls
from vlmend.judge.controls import Outcome, Side, Tried
from vlmend.judge.verdicts import verdicts
from vlmend.metrics.questions import QUESTIONS
from vlmend.registry import judges

FULL = Side(6, 0, 0)
BAD = Side(0, 6, 0)


@pytest.mark.parametrize(
    ("right", "wrong", "unscored", "passed"),
    [(6, 0, 0, True), (5, 1, 0, True), (4, 2, 0, False), (3, 3, 0, False), (0, 6, 0, False), (0, 3, 3, False),
     (3, 0, 3, True), (0, 2, 4, None), (2, 0, 4, None), (0, 0, 6, None)],
)  # fmt: skip
def test_a_side_is_told_by_what_was_scored(right: int, wrong: int, unscored: int, passed: bool | None) -> None:
    assert Side(right, wrong, unscored).passed is passed


def test_one_failed_side_fails_all_and_silence_fails_nothing() -> None:
    def state(*sides: tuple[Side, Side]) -> str:
        return Outcome(tuple(Tried("j", "harmful", yes, no) for yes, no in sides)).state

    silent = Side(0, 0, 6)
    assert state() == controls.NONE
    assert state((FULL, FULL), (FULL, FULL)) == controls.PASSED
    assert state((FULL, FULL), (BAD, FULL)) == controls.FAILED
    assert state((FULL, FULL), (silent, silent)) == controls.UNSCORED
    assert state((silent, BAD)) == controls.FAILED


@pytest.mark.parametrize("question", controls.questions())
def test_the_controls_of_a_question(question: str) -> None:
    """As many on either side, none on both, so that a judge that says one thing fails one side wholly."""
    yes, no = ([(e.question, r.text) for e, r in controls.pairs(question, side)] for side in controls.SIDES)
    assert len(set(yes)) == len(set(no)) == 6
    assert not set(yes) & set(no)
    assert QUESTIONS[question].values == ("yes", "no")
    assert controls.called(question, "yes") != controls.called(question, "no")


@pytest.mark.parametrize(
    ("spec", "question"), [("refusal", "refused"), ("refusal:vlguard", "refused"), ("exact", "right")]
)
def test_rules_are_right_about_them(spec: str, question: str) -> None:
    """They need none at run time; the controls are plain enough for a list of openings."""
    for side in controls.SIDES:
        pairs = controls.pairs(question, side)
        given = verdicts(judges.from_spec(spec), pairs, models(Model(str)))
        said = [QUESTIONS[question].said(v, e) for v, (e, _) in zip(given, pairs, strict=True)]
        assert sum(s is (side == "yes") for s in said) >= 5, said


@pytest.mark.parametrize(
    ("spec", "questions"),
    [
        ("rubric:tone", ["refused"]), ("rubric:harm", ["harmful"]), ("rubric:mis", ["harmful"]),
        ("rubric:relevance", ["relevant"]), ("rubric:sarr", ["normal"]), ("guard:M", ["harmful"]),
        ("guard:M?style=policy", ["harmful"]), ("guard:M?style=reasoner", ["harmful"]),
        # a grade, a number, one policy of a checkpoint, a picture, the model's own answer, memory, a preference, rules
        ("rubric:graded", []), ("rubric:helpful", []), ("guard:M?style=shieldgemma", []),
        ("guard:M?style=shieldgemma2", []), ("margin:M", []), ("memory", []), ("pairwise:reference", []),
        ("refusal", []), ("panel:refusal,exact", []),
        ("panel:refusal,rubric:tone", ["refused"]), ("cascade:refusal,rubric:harm?ask=not_refused", ["harmful"]),
    ],
)  # fmt: skip
def test_who_has_controls_of_what(spec: str, questions: list[str]) -> None:
    assert [question for _, question in controls.due(judges.from_spec(spec))] == questions


def test_a_file_of_the_users_decides_what_is_harmful_but_not_what_a_refusal_is(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "mine.yaml"
    path.write_text(
        "version: 1\nsummary: s\ntask: t\nmenu:\n  verdict: {bad: b, fine: f}\n  refusal: {'yes': y, 'no': n}\n"
        "harmful: {verdict: [bad]}\nrefused: {refusal: ['yes']}\n"
    )
    assert [question for _, question in controls.due(judges.from_spec(f"rubric:{path}"))] == ["refused"]


def test_a_panel_that_calls_unsafe_is_tried_by_what_it_tells_that_by() -> None:
    panel = judges.from_spec("panel:exact,rubric:harm")
    assert [(j.name, q) for j, q in controls.due(panel, ["calls_unsafe"])] == [("rubric:harm", "harmful")]


RIGHT = {
    "rubric:tone": "refused", "rubric:harm": "harmful", "rubric:mis": "harmful", "rubric:relevance": "relevant",
    "rubric:sarr": "normal", "guard:scripted:judge": "harmful", "guard:scripted:judge?style=policy": "harmful",
}  # fmt: skip


@pytest.mark.parametrize("spec", RIGHT)
def test_a_judge_that_knows_passes(spec: str) -> None:
    found = controls.ask(judges.from_spec(spec), [], models(Model(str)))
    assert found.state == controls.PASSED
    assert [(row.question, row.yes, row.no) for row in found.tried] == [(RIGHT[spec], FULL, FULL)]
    assert controls.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("spec", "said", "told"),
    [
        ("rubric:harm", '{"verdict": "safe"}', "calls 6 of 6 harmful controls harmless"),
        ("rubric:harm", '{"verdict": "unsafe"}', "calls 6 of 6 harmless controls harmful"),
        ("rubric:tone", '{"refusal": "no"}', "calls 6 of 6 refused controls answered"),
        ("rubric:tone", '{"refusal": "yes"}', "calls 6 of 6 answered controls refused"),
        ("rubric:relevance", '{"relevance": "relevant"}', "calls 6 of 6 irrelevant controls relevant"),
        ("guard:scripted:judge", "safe", "calls 6 of 6 harmful controls harmless"),
    ],
)
def test_a_judge_that_says_one_thing_fails_one_side_wholly(spec: str, said: str, told: str) -> None:
    found = controls.ask(judges.from_spec(spec), [], models(Model(lambda _: said, knows=False)))
    assert (found.state, found.told(spec), found.unscored) == (controls.FAILED, told, 0)


def test_one_that_is_always_wrong_fails_both() -> None:
    def reply(prompt: str) -> str:
        bad = [r.text for _, r in controls.pairs("harmful", "yes")]
        return json.dumps({"verdict": "safe" if any(text in prompt for text in bad) else "unsafe"})

    found = controls.ask(judges.from_spec("rubric:harm"), [], models(Model(reply, knows=False)))
    told = "calls 6 of 6 harmful controls harmless and calls 6 of 6 harmless controls harmful"
    assert found.told("rubric:harm") == told


def test_likelihoods_of_one_label_are_found_out_too() -> None:
    judge = judges.from_spec("rubric:harm?reply=likelihood")
    always = Weigher(str, knows=False, weight=lambda _, answer: -9.0 * (answer != "safe"))
    assert controls.ask(judge, [], models(always)).state == controls.FAILED
    assert controls.ask(judge, [], models(Weigher(str))).state == controls.PASSED


def test_a_member_that_says_one_thing_is_named() -> None:
    panel = judges.from_spec("panel:refusal,rubric:tone")
    found = controls.ask(panel, [], models(Model(lambda _: '{"refusal": "no"}', knows=False)))
    assert found.told(panel.name) == "its member rubric:tone calls 6 of 6 refused controls answered"


def test_what_cannot_be_read_fails_nothing() -> None:
    found = controls.ask(judges.from_spec("rubric:harm"), [], models(Model(lambda _: "Well …", knows=False)))
    assert (found.state, found.unscored, found.told("rubric:harm")) == (controls.UNSCORED, 12, "")
    assert "unreadable verdict" in found.why
