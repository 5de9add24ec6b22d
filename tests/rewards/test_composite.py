"""Several rewards are one number, and what one of them leaves unscored is never worth anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vlmend.config import MethodConfig
from vlmend.errors import ConfigError, UsageError
from vlmend.judge.models import Models
from vlmend.rewards import Composite, Term, build, refuse_same
from vlmend.store import write_json
from vlmend.types import Example, Message, Rollout

EXAMPLE = Example("e", (Message("user", ("q",)),))


def rollout(text: str, tokens: int = 0) -> Rollout:
    return Rollout(EXAMPLE, text, tokens, finished=True)


@dataclass(frozen=True)
class Given:
    values: tuple[float | None, ...]

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float | None]:
        return self.values


def test_total_is_the_sum_of_weighted_terms_within_their_bounds() -> None:
    made = build(
        [
            {"reward": "begins:no", "weight": 3},
            {"reward": "length:0.5", "weight": -2, "cap": 4, "floor": 1, "name": "l"},
        ]
    )
    short, middle, long = made([rollout("No.", 0), rollout("yes", 4), rollout("no", 100)])
    assert (short.total, middle.total, long.total) == (3 - 2 * 1, 0 - 2 * 2, 3 - 2 * 4)
    assert long.terms == {"begins:no": 1.0, "l": 50.0}  # as given, so that a log shows what a cap hides


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_what_one_reward_leaves_unscored_is_unscored(nothing: float | None) -> None:
    terms = ((Term(reward="a"), Given((1.0, 2.0))), (Term(reward="b", weight=0.0), Given((nothing, 5.0))))
    lost, kept = Composite(terms)([rollout("x"), rollout("y")])
    assert lost.total is None
    assert lost.terms == {"a": 1.0, "b": None}
    assert kept.total == 2.0


def test_a_rollout_is_worth_the_same_in_whatever_company() -> None:
    made = build(["rule?match=refusal", {"reward": "length", "cap": 1.0}])
    batch = [rollout("I cannot help with that.", 7), rollout("It is red.", 3), rollout("", 1)]
    assert made(batch) == [made([one])[0] for one in batch]
    assert made([]) == []


def test_a_reward_that_gives_too_few_numbers_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="gave 1 numbers for 2 rollouts"):
        Composite(((Term(reward="a"), Given((1.0,))),))([rollout("x"), rollout("y")])


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ([], "at least one reward"),
        ("rule", "rewards is a list"),
        ([{"weight": 2}], r"rewards.0: 'reward' is required"),
        ([{"reward": "rule", "wieght": 2}], "rewards.0: unknown key 'wieght'. Did you mean 'weight'"),
        ([{"reward": "rule", "weight": math.inf}], "rewards.0: 'weight'"),
        (["rule", "ruel"], "rewards.1: no reward named 'ruel'. Did you mean 'rule'"),
        (["rule?mach=answers"], "no rule option named 'mach'. Did you mean 'match'"),
        (["rule?format=("], "is no regular expression"),
        (["length", "length"], "two rewards 'length'"),
        ([{"reward": "length", "cap": 1, "floor": 2}], "floor 2 is above cap 1"),
    ],
)
def test_what_cannot_be_meant_is_one_line(terms: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        build(terms)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_options_have_room_for_what_a_spec_has_not() -> None:
    made = build([{"reward": "rule", "options": {"match": "refusal", "format": "(?s)<a>.+?</a>#.*"}}])
    assert [one.total for one in made([rollout("<a>x</a># ring"), rollout("a ring")])] == [1.0, 0.0]


def test_judges_that_rewards_hear_are_known() -> None:
    assert build(["length", "rule", {"reward": "rule?match=refusal", "name": "again"}]).judges == ("refusal",)
    assert build(["length", "begins:no"]).judges == ()


def refused(terms: list[Any], judges: list[str], **settings: Any) -> None:
    """The rewards from the second on are costs."""
    refuse_same(MethodConfig(name="grpo", **settings, rewards=terms[:1], costs=terms[1:]), judges)  # type: ignore[call-arg]


def test_a_judge_of_the_tuned_model_that_is_its_reward_is_refused_unless_asked_for() -> None:
    with pytest.raises(ConfigError, match="refusal is a reward of method grpo"):
        refused(["judge:refusal"], ["refused=refusal"])
    for terms in (["length", "rule"], [{"reward": "judge:(refusal)?good=2", "weight": 0.1}]):
        with pytest.raises(ConfigError, match=r"method\.same_judge=allowed"):
            refused(terms, ["exact", "refusal?classifier="])
        refused(terms, ["refusal"], same_judge="allowed")
        refused(terms, ["refusal:vlguard", "exact", "refusal?allow_self=yes"])
    refused(["length"], ["refusal"])
    refused([], ["refusal"])
    refuse_same(MethodConfig(), ["refusal"])
    with pytest.raises(ConfigError, match="no reward named 'ruel'"):
        refused(["ruel"], [], same_judge="allowed")


def test_nor_does_it_judge_what_was_tuned_with_it(tmp_path: Path) -> None:
    """By the manifest beside the weights, whoever evaluates them later."""

    def models(**method: str) -> Models:
        about = {"recipe": {"method": {"name": "grpo", **method}}, "reward_judges": ["refusal"]}
        write_json(tmp_path / "manifest.json", about)
        return Models().testing(f"world+{tmp_path}")

    with pytest.raises(UsageError, match="judge refusal was the reward"):
        models().for_judge("refusal")
    assert models().for_judge("exact")
    assert models().for_judge("refusal:vlguard")
    assert models(same_judge="allowed").for_judge("refusal")
