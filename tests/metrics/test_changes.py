"""Paired tests of clusters and scores, and the correction for many of them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import permutation_test
from statsmodels.stats.multitest import multipletests

from vlmend.metrics import rates
from vlmend.metrics.paired import Change, Shift, change, holm, mcnemar, pair, random_flip, sign_flip
from vlmend.types import Metric, Score, Statistic

from .test_clusters import record

REFUSED = Metric("refused", "", rates.everything, rates.refused("refusal"))
MEAN = Score("score", "", rates.everything, rates.scored("agrees", "refusal"))


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 0), (5, 2), (10, 10), (40, 61)])
def test_sign_flips_of_single_pairs_are_mcnemar(lost: int, gained: int) -> None:
    assert sign_flip([-1] * lost + [1] * gained + [0] * 7) == pytest.approx(mcnemar(lost, gained))


@pytest.mark.parametrize("sums", [[3, -1, 2, 2, 0, 1], [1, 1, -3], [2, 2, 2, 2], [-5, 4, 1, 1, 1]])
def test_sign_flips_equal_all_signs_one_by_one(sums: list[int]) -> None:
    totals = [
        sum(s * v for s, v in zip(signs, sums, strict=True)) for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    observed = abs(sum(sums))
    exact = sum(abs(v) >= observed for v in totals) / len(totals)
    beyond = sum(abs(v) > observed for v in totals) / len(totals)
    assert sign_flip(sums) == pytest.approx((exact, (exact + beyond) / 2))


def test_random_flips_equal_scipys() -> None:
    d = np.random.default_rng(3).normal(0.25, 1, 60)
    reference = permutation_test((d,), np.sum, permutation_type="samples", n_resamples=20_000, rng=0).pvalue
    assert random_flip(d.tolist()) == pytest.approx(reference, abs=0.02)
    assert random_flip([]) is None


def test_a_random_flip_is_never_beyond_its_draws() -> None:
    """(1 + those as extreme) / (1 + 10,000): 1 / 10,001 where no draw reaches what was seen, 1 where every one does."""
    assert random_flip([1.0] * 60) == random_flip([-0.1] * 60) == 1 / 10_001
    assert random_flip([0.0, 0.0]) == random_flip([2.5]) == random_flip([1.0, -1.0]) == 1.0


@pytest.mark.parametrize("sums", [[1.5, 1.5], [0.5, 0.5, 0.5], [3.0, 1.0, 0.5, 0.25], [2.0, -1.0, 0.5, 0.5, 0.1]])
def test_few_random_flips_are_those_that_can_be_counted(sums: list[float]) -> None:
    """Ties count as extreme: two equal sums of one sign are as extreme as half of all flips."""
    signs = itertools.product((1, -1), repeat=len(sums))
    totals = [abs(sum(s * v for s, v in zip(row, sums, strict=True))) for row in signs]
    exact = sum(total >= abs(sum(sums)) - 1e-12 for total in totals) / len(totals)
    found = random_flip(sums)
    assert found is not None
    assert found * 10_001 == pytest.approx(round(found * 10_001), abs=1e-6)
    assert found == pytest.approx(exact, abs=0.02)  # four standard deviations of 10,000 draws


def test_holm_equals_statsmodels_and_leaves_gaps() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 0.9, 0.04]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert holm([None, 0.02, None, 0.5]) == [None, 0.04, None, 0.5]
    assert holm([]) == []


def test_clusters_make_a_change_less_certain() -> None:
    before = [record(f"a{i}", i < 12) for i in range(40)]
    after = [record(f"a{i}", i < 3) for i in range(40)]
    alone = change(pair(before, after).pairs, REFUSED)

    def together(r):
        return replace(r, example=replace(r.example, cluster=f"p{int(r.example.id[1:]) // 3}"))

    found = change(pair(map(together, before), map(together, after)).pairs, REFUSED)
    assert isinstance(alone, Change)
    assert isinstance(found, Change)
    assert (found.lost, found.gained, found.difference) == (alone.lost, alone.gained, alone.difference)
    assert (alone.clusters, found.clusters) == (0, 14)
    assert found.p == pytest.approx(2 * 0.5**3)  # three clusters of three, all in one direction
    assert (found.p or 0) > (alone.p or 1)
    assert (found.high or 0) - (found.low or 0) > (alone.high or 0) - (alone.low or 0)


def test_scores_are_compared_pair_by_pair() -> None:
    before = [record(f"a{i}", True, score=i / 100) for i in range(50)]
    after = [record(f"a{i}", True, score=i / 100 + 0.1 + (i % 5) / 100) for i in range(49)] + [record("a49", True)]
    found = change(pair(before, after).pairs, MEAN)
    assert isinstance(found, Shift)
    assert (found.n, found.unscored) == (49, 1)
    assert found.difference == pytest.approx(np.mean([0.1 + (i % 5) / 100 for i in range(49)]))
    assert found.low is not None
    assert found.low <= (found.difference or 0) <= (found.high or 0)
    assert (found.high or 0) - found.low < 0.02  # the spread of scores is gone, only that of the changes is left
    assert (found.p or 1) < 0.001


def test_statistics_are_compared() -> None:
    spread = Statistic(
        "spread", "", rates.everything, lambda r: r.verdicts[0].score, lambda rows: max(rows) - min(rows)
    )
    before = [record(f"a{i}", True, score=i / 40) for i in range(20)]
    same = change(pair(before, before).pairs, spread)
    assert isinstance(same, Shift)
    assert (same.difference, same.p) == (0.0, 1.0)
    nothing = change((), spread)
    assert (nothing.n, nothing.p, nothing.low) == (0, None, None)


def test_samples_are_paired_one_by_one() -> None:
    before = [record("a", True, sample=i) for i in range(3)]
    after = [record("a", i > 0, sample=i) for i in range(3)]
    found = pair(before, after)
    assert [(p.before.response.sample, p.after.response.sample) for p in found.pairs] == [(0, 0), (1, 1), (2, 2)]
    assert pair(before, after[:1]).only_before == ("a",)


def test_units_change_as_one() -> None:
    before = [record("a", False, sample=i) for i in range(3)] + [record("b", True, sample=0)]
    after = [record("a", i == 2, sample=i) for i in range(3)] + [record("b", True, sample=0)]
    found = change(pair(before, after).pairs, replace(REFUSED, unit=rates.origin))
    assert isinstance(found, Change)
    assert (found.n, found.k_before, found.k_after, found.gained, found.lost) == (2, 1, 2, 1, 0)
