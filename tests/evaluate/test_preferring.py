"""A reward held against preferences: swapped sides are the contrary, ties are no agreement, nothing is dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from vlmend.errors import DataError
from vlmend.evaluate.preferring import measure
from vlmend.rewards import from_spec
from vlmend.types import Expected, Image, Message, Pair, Rollout


@dataclass(frozen=True)
class Worth:
    """What an answer is worth, as a function of it."""

    of: Callable[[Rollout], float | None]

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float | None]:
        return [self.of(rollout) for rollout in rollouts]


PAIRS = [
    Pair(
        f"p{i}",
        (Message("user", (f"question {i}",)),),
        "yes " * (i + 1),
        "no",
        category="ab"[i % 2],
        cluster=f"c{i // 2}",
    )
    for i in range(8)
]
LENGTH = Worth(lambda rollout: float(rollout.tokens))


def swapped(pairs: Sequence[Pair]) -> list[Pair]:
    return [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]


def test_accuracy_counts_the_chosen_side_that_is_worth_more() -> None:
    found = measure(LENGTH, PAIRS)
    assert (found.accuracy.k, found.accuracy.n, found.ties) == (7, 8, 1)  # the first pair has a word on either side
    assert found.margin.value == pytest.approx(sum(range(8)) / 8)
    assert {name: (rate.k, rate.n) for name, rate in found.groups.items()} == {"a": (3, 4), "b": (4, 4)}
    assert found.accuracy.clusters == 4
    assert found.accuracy.low is not None
    assert found.accuracy.low < 7 / 8


def test_swapped_sides_are_the_contrary() -> None:
    there, back = measure(LENGTH, PAIRS), measure(LENGTH, swapped(PAIRS))
    assert back.accuracy.k == 8 - there.accuracy.k - there.ties
    assert back.ties == there.ties
    assert there.margin.value is not None
    assert back.margin.value == pytest.approx(-there.margin.value)


def test_what_is_unscored_on_one_side_is_unscored_and_counted() -> None:
    found = measure(Worth(lambda r: None if r.text == "no" and "7" in r.example.question else 1.0), PAIRS)
    assert (found.accuracy.n, found.accuracy.unscored, found.margin.n) == (7, 1, 7)
    assert found.unscored == 1 / 8
    assert measure(Worth(lambda _: None), PAIRS).accuracy.value is None


def test_a_reward_is_not_told_what_is_preferred() -> None:
    seen: list[Rollout] = []
    measure(Worth(lambda r: seen.append(r) or 0.0), PAIRS)
    assert len(seen) == 16
    assert not any(r.example.answers for r in seen)
    assert {r.example.expected for r in seen} == {Expected.ANSWER}


def test_what_is_expected_comes_from_the_row() -> None:
    refusal = "I'm sorry, but I can't help with that."
    pair = replace(PAIRS[0], chosen=refusal, rejected="It is red.", meta={"expected": "refuse"})
    assert measure(from_spec("judge:refusal"), [pair]).margin.value == 2.0
    assert measure(from_spec("judge:refusal"), [replace(pair, meta={})]).margin.value == -2.0
    with pytest.raises(DataError, match="'expected' is 'refused'; it can be answer, refuse, reason"):
        measure(from_spec("judge:refusal"), [replace(pair, meta={"expected": "refused"})])


def test_the_rejected_side_is_shown_its_own_pictures() -> None:
    mine, other = (Image(make=lambda: b"x"), Image(make=lambda: b"y"))
    pair = replace(PAIRS[0], prompt=(Message("user", (mine, "q")),), rejected_images=(other,))
    shown: list[Image] = []
    measure(Worth(lambda r: shown.append(r.example.images[0]) or 0.0), [pair])
    assert shown == [mine, other]


def test_signs_are_held_against_what_rows_say_does_harm() -> None:
    rows = [
        replace(pair, meta={"chosen_harmful": "0", "rejected_harmful": "1" if i % 2 else "0"})
        for i, pair in enumerate(PAIRS)
    ]
    signs = measure(Worth(lambda r: 1.0 if "yes" in r.text else -1.0), rows, signs=True).signs
    assert signs is not None
    assert (signs.k, signs.n) == (8 + 4, 16)
    assert measure(LENGTH, rows).signs is None
    assert measure(LENGTH, PAIRS, signs=True).signs is None
