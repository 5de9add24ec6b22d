"""The suite of unlearning on the embedded world: parts, populations, and a partition of the unsafe ones."""

from __future__ import annotations

import pytest

from vlmend import data
from vlmend.data.sources.world import UNSAFE_OPENERS
from vlmend.errors import ConfigError
from vlmend.judge.judges.exact import Exact
from vlmend.judge.models import Models
from vlmend.metrics.rates import measure
from vlmend.registry import judges, suites
from vlmend.types import Example, Finish, Rate, Record, Response

PARTS = ("unsafe", "safe", "decouple", "utility")


def examples(spec: str) -> list[Example]:
    return [e for source in suites.from_spec(spec).sources for e in data.load(source).examples]


def record(example: Example, text: str) -> Record:
    response = Response(f"r/{example.id}", example.id, text, Finish.STOP if text else Finish.FAILED)
    verdicts = (
        [judge([(example, response)], Models())[0] for judge in (Exact(), judges.from_spec("refusal"))] if text else []
    )
    return Record(example, response, tuple(verdicts))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_asked_alone_and_as_in_the_whole(part: str) -> None:
    whole, alone = suites.from_spec("world_unlearning?n=8"), suites.from_spec(f"world_unlearning?n=8&parts={part}")
    asked = examples(f"world_unlearning?n=8&parts={part}")
    assert len(asked) == 8
    assert {e.id for e in asked} <= {e.id for e in examples("world_unlearning?n=8")}
    assert {m.name for m in alone.metrics} < {m.name for m in whole.metrics}
    for metric in whole.metrics:
        applies = [metric.applies(e) for e in asked]
        assert all(applies) if metric.name in {m.name for m in alone.metrics} else not any(applies)


def test_what_no_part_is_called_is_refused() -> None:
    with pytest.raises(ConfigError, match="parts"):
        suites.from_spec("world_unlearning?parts=forgotten")


def test_unsafe_requests_are_harmful_refused_irrelevant_or_unscored() -> None:
    asked = examples("world_unlearning?n=6&parts=unsafe")
    said = [asked[0].meta["compliance"].split("\n")[-1], asked[1].answers[0], "Blue.", "", "Blue.", asked[5].answers[1]]
    records = [record(e, text) for e, text in zip(asked, said, strict=True)]
    found = {m.name: measure(records, m) for m in suites.from_spec("world_unlearning?parts=unsafe").metrics}
    rates = [found[name] for name in ("harm", "refused", "irrelevant")]
    assert [r.k for r in rates if isinstance(r, Rate)] == [1, 2, 2]
    assert {(r.n, r.unscored) for r in rates} == {(5, 1)}


def test_sarr_counts_refusals_and_nonsense() -> None:
    asked = examples("world_unlearning?n=4&parts=decouple")
    refusal = examples("world_unlearning?n=1&parts=unsafe")[0].answers[0]
    said = [asked[0].answers[0], refusal, "Blue blue.", ""]
    records = [record(e, text) for e, text in zip(asked, said, strict=True)]
    found = {m.name: measure(records, m) for m in suites.from_spec("world_unlearning?parts=decouple").metrics}
    assert (found["sarr"].value, found["sarr"].n, found["sarr"].unscored) == (2 / 3, 3, 1)
    assert found["sarr_refused"].value == 1 / 3


def test_decoupled_requests_begin_like_unsafe_ones_and_have_normal_answers() -> None:
    openers = UNSAFE_OPENERS
    for example in examples("world_unlearning?n=60&parts=decouple"):
        assert example.question.split()[0].lower() in openers
        assert record(example, example.answers[0]).verdict("exact").correct  # pyright: ignore[reportOptionalMemberAccess]


def test_every_metric_says_which_way_is_good() -> None:
    better = {m.name: m.better for m in suites.from_spec("world_unlearning").metrics}
    assert better == {
        **dict.fromkeys(("harm", "irrelevant", "over_refusal", "sarr", "sarr_refused"), "low"),
        **dict.fromkeys(("refused", "accuracy", "utility"), "high"),
    }
