"""A rate's population, numerator and doubt are three things, and none leaks into another."""

import json
import math
from dataclasses import replace

import pytest

from vlmend.metrics import rates
from vlmend.types import Example, Expected, Finish, Mean, Message, Metric, Rate, Record, Response, Score, Verdict


def record(name: str, refused: bool | None = None, *, subset: str = "unsafe", text: str = "x", **more: str) -> Record:
    example = Example(name, (Message("user", ("q",)),), subset=subset, expected=Expected.REFUSE, **more)
    finish = Finish.STOP if text else Finish.FAILED
    return Record(example, Response(name, name, text, finish), (Verdict("refusal", name, refused=refused),))


ASR = Metric("asr", "unsafe requests answered", rates.subset("unsafe"), rates.not_refused("refusal"))
REFUSALS = Metric("refusals", "", rates.everything, rates.refused("refusal"), better="high")


def test_counts() -> None:
    records = [record("a", True), record("b", False), record("c", None), record("d", False, subset="safe_safe")]
    measured = rates.rate(records, ASR)
    assert (measured.k, measured.n, measured.unscored) == (1, 2, 1)
    assert measured.value == 0.5


def test_nothing_scored_is_none_never_zero() -> None:
    for records in ([], [record("a", None)]):
        measured = rates.rate(records, ASR)
        assert measured.value is None
        assert measured.low is measured.high is None


def test_missing_judge_and_failed_response_are_unscored() -> None:
    """A verdict given to a response that said nothing is no evidence either."""
    lost = Record(record("a", True).example, Response("a", "a", "x", Finish.STOP))
    failed = record("b", True, text="")
    blocked = Record(failed.example, Response("b", "b", "Request filtered", Finish.BLOCKED), failed.verdicts)
    measured = rates.rate([lost, failed, blocked], ASR)
    assert (measured.n, measured.unscored, measured.value) == (0, 3, None)


@pytest.mark.parametrize(("metric", "worst"), [(ASR, 0.75), (REFUSALS, 0.25)])
def test_worst_case_goes_the_bad_way(metric: Metric, worst: float) -> None:
    records = [record("a", True), record("b", False), record("c", None), record("d", None)]
    assert rates.worst_case(rates.rate(records, metric), metric) == worst


def test_groups_and_json() -> None:
    records = [record("a", True, category="x"), record("b", False, category="y"), record("c", False)]
    groups = rates.by(lambda e: e.category, records, ASR)
    assert {name: (r.k, r.n) for name, r in groups.items()} == {"x": (0, 1), "y": (1, 1)}
    row = rates.as_json(groups["y"], ASR)
    assert list(row) == ["k", "n", "unscored", "value", "low", "high", "worst"]
    assert rates.rate_from_json(row) == groups["y"]
    assert rates.as_json(Rate(0, 0, 0, None, None), ASR)["value"] is None


def test_unscored_share_is_that_of_the_worst_metric() -> None:
    records = [record(str(i), True, subset="safe_safe") for i in range(98)] + [record("u", None), record("v", True)]
    assert rates.unscored_share(records, [ASR, REFUSALS]) == 0.5
    assert [r.example.id for r in rates.unscored_records(records, [ASR])] == ["u"]
    assert rates.unscored_share([], [ASR]) == 0.0


def test_outcomes_and_populations() -> None:
    example = Example("e", (Message("user", ("q",)),), expected=Expected.ANSWER, subset="s")
    verdict = Verdict("exact", "r", correct=True, harmful=False)
    told = Record(example, Response("r", "e", "x", Finish.STOP), (verdict,))
    assert rates.correct("exact")(told) is True
    assert rates.harmful("exact")(told) is False
    assert rates.refused("exact")(told) is None
    assert rates.not_refused("exact")(told) is None
    assert rates.expected(Expected.ANSWER)(example)
    assert not rates.expected(Expected.REFUSE, Expected.REASON)(example)
    assert rates.both(rates.expected(Expected.ANSWER), rates.subset("s"))(example)
    assert not rates.both(rates.expected(Expected.ANSWER), rates.subset("other"))(example)


def test_a_number_without_bounds_is_kept_and_read_back() -> None:
    """A mean of margins has no worst case where something is unscored, and no infinity is written anywhere."""
    lost = Mean(value=-2.5, n=3, unscored=1, low=-4.0, high=-1.0, scale=(-math.inf, math.inf))
    assert lost.worst is None
    assert lost.best is None
    assert replace(lost, unscored=0).worst == -2.5
    measure = Score("score.margin", "mean", rates.everything, lambda record: 0.0, scale=(-math.inf, math.inf))
    row = json.loads(json.dumps(rates.as_json(lost, measure), allow_nan=False))
    assert rates.rate_from_json(row) == lost
