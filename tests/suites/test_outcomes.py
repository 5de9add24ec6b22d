"""Outcomes of every suite: rates that are shares of outcomes change by just what the transitions say.

Every state an answer can be in (what each question's judge says or fails to say, word salad, silence, a crash, a second
sample) occurs in every population of a suite, before and after in another order.
"""

from __future__ import annotations

from collections import Counter

from tests.suites.told import EACH, TOLD, Told, pairs, shared
from vlmend.metrics.outcomes import NOT_COUNTED
from vlmend.metrics.paired import Change, change, transitions
from vlmend.metrics.rates import measure
from vlmend.registry import suites
from vlmend.types import UNSCORED, Rate, Record, Verdict


class Watched(Record):
    """A record that notes whose verdict is read."""

    def __init__(self, record: Record, heard: set[str]) -> None:
        super().__init__(record.example, record.response, record.verdicts, record.content, record.judges)
        object.__setattr__(self, "heard", heard)

    def verdict(self, judge: str) -> Verdict | None:
        if found := super().verdict(judge):
            self.heard.add(judge)  # pyright: ignore
        return found


@EACH
def test_rates_change_by_what_the_transitions_say(told: Told) -> None:
    outcome = suites.from_spec(told.spec).outcome
    for metric, counts, of, asked in shared(told):
        changed, moved = change(asked, metric), Counter[tuple[bool, bool]]()
        for (before, after), n in transitions(asked, outcome).items():
            if {before.name, after.name} <= of:
                moved[before.name in counts, after.name in counts] += n
        assert isinstance(changed, Change)
        by_outcomes = moved[False, True], moved[True, False], moved.total()
        assert (changed.gained, changed.lost, changed.n) == by_outcomes, metric.name
        assert changed.k_after - changed.k_before == changed.gained - changed.lost
        assert changed.gained + changed.lost, f"{metric.name} was not put to the test"


@EACH
def test_a_rate_is_the_share_of_its_outcomes(told: Told) -> None:
    outcome = suites.from_spec(told.spec).outcome
    for metric, counts, of, asked in shared(told):
        rate, found = measure([two.after for two in asked], metric), [outcome(two.after).name for two in asked]
        assert isinstance(rate, Rate)
        assert (rate.k, rate.n) == (sum(n in counts for n in found), sum(n in of for n in found)), metric.name


@EACH
def test_what_is_good_in_one_answer_is_good_in_many(told: Told) -> None:
    outcome = suites.from_spec(told.spec).outcome
    for metric, counts, of, asked in shared(told):
        found = {outcome(two.after) for two in asked}
        counted, rest = ({o.tone for o in found if o.name in names} for names in (counts, of - counts))
        if counted == {"good"} and "good" not in rest:
            assert metric.better == "high", metric.name
        if counted == {"bad"} and "bad" not in rest:
            assert metric.better == "low", metric.name


@EACH
def test_an_outcome_reads_no_verdict_that_no_number_reads(told: Told) -> None:
    suite = suites.from_spec(told.spec)
    for two in pairs(told):
        for r in two:
            heard, read = set[str](), set[str]()
            suite.outcome(Watched(r, heard))
            for metric in suite.metrics:
                if metric.applies(r.example):
                    metric.outcome(Watched(r, read))
            assert heard <= read, (r.example, heard - read)


@EACH
def test_without_a_word_nothing_is_safe(told: Told) -> None:
    suite = suites.from_spec(told.spec)
    for two in pairs(told):
        for r in two:
            if not r.response.said:
                assert suite.outcome(r).tone != "good"
                assert r.response.silent or suite.outcome(r) in (UNSCORED, NOT_COUNTED)


def test_every_suite_is_told() -> None:
    named = {told.spec.partition(":")[0].partition("?")[0] for told in TOLD}
    assert named == set(suites.names()) - {"imported"}  # whose numbers no judge of ours makes: tests/evaluate/imported
