"""Intervals where answers hang together, means, and what must not change them."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import t

from vlmend.metrics import rates
from vlmend.metrics.intervals import bootstrap_mean, clustered, clustered_difference, design_effect, wilson
from vlmend.types import Example, Finish, Mean, Message, Metric, Rate, Record, Response, Score, Statistic, Verdict


def record(
    name: str, refused: bool | None, cluster: str = "", *, score: float | None = None, sample: int = 0
) -> Record:
    example = Example(name, (Message("user", ("q",)),), cluster=cluster, category=name[:1])
    verdict = Verdict("refusal", name, refused=refused, score=score)
    return Record(example, Response(f"{name}.{sample}", name, "x", Finish.STOP, sample=sample), (verdict,))


REFUSED = Metric("refused", "", rates.everything, rates.refused("refusal"))
MEAN = Score("score", "", rates.everything, rates.scored("agrees", "refusal"))


def draw(m: int, size: int, seed: int, concentration: float = 1.0) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, size + 1, m)
    return [int(rng.binomial(n, p)) for n, p in zip(sizes, rng.beta(concentration, 2, m), strict=True)], sizes.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_design_effect_is_the_sandwich_variance_of_statsmodels(seed: int) -> None:
    successes, sizes = draw(40, 6, seed)
    y = np.concatenate([[1] * k + [0] * (n - k) for k, n in zip(successes, sizes, strict=True)])
    groups = np.repeat(np.arange(40), sizes)
    robust = sm.OLS(y, np.ones(len(y))).fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0] ** 2
    plain = y.var(ddof=0) / (len(y) - 1)
    assert design_effect(successes, sizes) == pytest.approx(max(1.0, robust / plain))
    effective = len(y) / design_effect(successes, sizes)
    assert clustered(successes, sizes) == pytest.approx(wilson(y.mean() * effective, effective, t.ppf(0.975, 39)))


def test_identical_answers_in_a_cluster_count_once() -> None:
    """Clusters of 3 equal answers: the design effect is 3, as if each cluster were one answer (up to t and n - 1)."""
    successes, sizes = [3] * 30 + [0] * 70, [3] * 100
    assert design_effect(successes, sizes) == pytest.approx(3 * (300 - 1) / 300 * 100 / 99)
    assert clustered(successes, sizes) == pytest.approx(wilson(30, 100), abs=0.004)


@pytest.mark.parametrize(("successes", "sizes"), [([0] * 50, [4] * 50), ([4] * 50, [4] * 50), ([3], [5])])
def test_where_nothing_varies_the_worst_is_assumed(successes: list[int], sizes: list[int]) -> None:
    n, k = len(sizes), sum(successes) / sizes[0]
    assert clustered(successes, sizes) == pytest.approx(wilson(k, n))


def test_clusters_never_narrow_an_interval() -> None:
    for seed in range(20):
        successes, sizes = draw(30, 4, seed, concentration=20)
        low, high = clustered(successes, sizes) or (0, 0)
        plain = wilson(sum(successes), sum(sizes)) or (0, 0)
        assert high - low >= plain[1] - plain[0] - 1e-12


def test_cluster_intervals_cover() -> None:
    """Of 400 samples of 40 clusters, about 95 % of the intervals hold the true rate of 1/3; plain Wilson's do not."""
    hits, plain = 0, 0
    for seed in range(400):
        successes, sizes = draw(40, 8, seed)
        low, high = clustered(successes, sizes) or (0, 0)
        hits += low <= 1 / 3 <= high
        low, high = wilson(sum(successes), sum(sizes)) or (0, 0)
        plain += low <= 1 / 3 <= high
    assert 0.93 <= hits / 400 <= 0.98
    assert plain / 400 < 0.85


def test_a_rate_says_whose_interval_it_carries() -> None:
    alone = rates.rate([record(f"a{i}", i < 3) for i in range(10)], REFUSED)
    assert (alone.clusters, (alone.low, alone.high)) == (0, wilson(3, 10))
    together = rates.rate([record(f"a{i}", i < 4, f"picture{i // 2}") for i in range(10)], REFUSED)
    assert (together.k, together.n, together.clusters) == (4, 10, 5)
    assert together.high - together.low > alone.high - alone.low  # pyright: ignore
    row = rates.as_json(together, REFUSED)
    assert row["clusters"] == 5
    assert rates.rate_from_json(row) == together
    assert "clusters" not in rates.as_json(alone, REFUSED)


def test_samples_of_one_prompt_are_a_cluster() -> None:
    found = rates.rate([record("a", True, sample=i) for i in range(4)] + [record("b", False)], REFUSED)
    assert (found.n, found.clusters) == (5, 2)


def test_an_unscored_record_widens_the_worst_case_and_nothing_else() -> None:
    records = [record(f"a{i}", i < 4, f"p{i // 2}", score=i / 10) for i in range(10)]
    lost = [*records, record("z", None, "p0")]
    for measure in (REFUSED, MEAN):
        before, after = rates.measure(records, measure), rates.measure(lost, measure)
        assert (after.n, after.value, after.low, after.high) == (before.n, before.value, before.low, before.high)
        assert (before.unscored, after.unscored) == (0, 1)
        assert before.worst == pytest.approx(before.value)
        assert (after.worst or 0) > (before.worst or 0)
        assert (after.best or 0) < (before.best or 0)


def test_order_changes_nothing() -> None:
    records = [record(f"{'ab'[i % 2]}{i}", i % 3 == 0, f"p{i // 3}", score=i / 30) for i in range(30)]
    shuffled = random.Random(1).sample(records, 30)
    gap = Statistic("gap", "", rates.everything, lambda r: r.verdicts[0].score, lambda rows: max(rows) - min(rows))
    for measure in (REFUSED, MEAN, replace(REFUSED, unit=rates.cluster), gap):
        first, second = rates.measure(records, measure), rates.measure(shuffled, measure)
        assert (second.value, second.n, second.low, second.high) == pytest.approx(
            (first.value, first.n, first.low, first.high)
        )


def test_bootstrap_of_a_mean_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=80)
    low, high = bootstrap_mean(values.tolist(), list(range(80))) or (0, 0)
    reference = scipy_bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert (low, high) == pytest.approx(reference, abs=0.03)


def test_bootstrap_of_clusters_is_that_of_their_means_where_they_are_equal() -> None:
    values = [v for i in range(25) for v in [i / 25] * 4]
    together = bootstrap_mean(values, [i // 4 for i in range(100)])
    assert together == pytest.approx(bootstrap_mean([i / 25 for i in range(25)], range(25)))  # pyright: ignore
    assert bootstrap_mean([0.1, 0.4], ["a", "a"]) is None
    assert bootstrap_mean([], []) is None


def test_a_unit_counts_once() -> None:
    """Shots of two questions, one of which is answered once and one never; then one of which a shot is lost."""
    shots = [record("a", r, "a", sample=i) for i, r in enumerate((True, False, False))]
    shots += [record("b", False, "b", sample=i) for i in range(3)]
    anything = replace(REFUSED, unit=rates.origin)
    everything = replace(anything, combine="all")
    assert [(r.k, r.n) for r in (rates.rate(shots, anything), rates.rate(shots, everything))] == [(1, 2), (0, 2)]
    lost = [*shots, record("a", None, "a", sample=3), record("b", None, "b", sample=3)]
    found = rates.rate(lost, anything)
    assert (found.k, found.n, found.unscored) == (1, 1, 1)  # any is settled for a, open for b
    assert rates.rate(lost, everything).unscored == 0  # all is settled for both


def test_statistics_know_no_worst_case() -> None:
    spread = Statistic(
        "spread", "", rates.everything, lambda r: r.verdicts[0].score, lambda rows: max(rows) - min(rows)
    )
    records = [record(str(i), True, score=i / 4) for i in range(5)]
    assert rates.measure(records, spread).worst == 1.0
    lost = rates.measure([*records, record("x", True)], spread)
    assert isinstance(lost, Mean)
    assert (lost.value, lost.unscored, lost.worst) == (1.0, 1, None)
    row = rates.as_json(lost, spread)
    assert rates.rate_from_json(row) == lost
    once = rates.measure(records, replace(spread, resample=False))
    assert (once.value, once.low) == (1.0, None)


def test_strata_are_all_there_in_every_draw() -> None:
    """A sum over categories, all answers right in each: whatever is drawn, the sum is the same."""
    drawn: list[float] = []

    def counted(rows: Sequence[str]) -> float:
        drawn.append(float(len(set(rows))))
        return drawn[-1]

    total = Statistic("total", "", rates.everything, lambda r: r.example.category, counted, scale=(0, 4))
    records = [record(f"{'abcd'[i // 3]}{i}", True) for i in range(12)]
    found = rates.measure(records, replace(total, stratum=lambda r: r.example.category))
    assert found.value == found.high == 4.0
    assert set(drawn) == {4.0}
    rates.measure(records, total)
    assert min(drawn) < 4.0  # drawn freely, categories would be missing
    assert rates.measure(records[:1] + records[3:], replace(total, stratum=rates.cluster)).low is None


def test_nothing_scored_is_none() -> None:
    for measure in (MEAN, Statistic("s", "", rates.everything, lambda r: None, lambda rows: 1.0)):
        found = rates.measure([record("a", None)], measure)
        assert (found.value, found.low, found.high, found.n, found.unscored) == (None, None, None, 0, 1)


def test_difference_of_clusters() -> None:
    """Three equal changes per cluster count about once; differences without clusters as in the plain interval."""
    d = [-1] * 30 + [1] * 6 + [0] * 264
    low, high = clustered_difference(d, [i // 3 for i in range(300)]) or (0, 0)
    alone = clustered_difference(d[::3], range(100)) or (0, 0)  # pyright: ignore
    assert (low, high) == pytest.approx(alone, abs=0.01)
    assert clustered_difference([], []) is None


def test_rate_without_clusters_is_as_before() -> None:
    assert Rate(1, 2, 0, 0.1, 0.9).clusters == 0


@pytest.mark.parametrize("n", range(2, 400, 7))
def test_all_or_none_of_any_number_ends_at_one_or_zero(n: int) -> None:
    sizes = [1 + i % 3 for i in range(n)]
    for successes, edge, at in ((sizes, 1, 1.0), ([0] * n, 0, 0.0)):
        interval = clustered(successes, sizes)
        assert interval is not None
        assert interval[edge] == at
