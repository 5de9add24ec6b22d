"""Seeds pooled: counts add up, intervals cover examples and seeds, and agree with what is known otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from vlmend.metrics.intervals import clustered, crossed, crossed_mean, crossed_variance, wilson
from vlmend.metrics.rates import everything, measure, refused
from vlmend.metrics.seeds import pooled
from vlmend.types import Example, Finish, Message, Metric, Rate, Record, Response, Score, Statistic, Verdict

REFUSED = Metric("refused", "", everything, refused("j"))
SCORE = Score("score", "", everything, lambda r: r.verdicts[0].score, scale=(0.0, 1.0))


def record(name: str, seed: int, outcome: bool | None, cluster: str = "", score: float | None = None) -> Record:
    response = Response(f"{name}/{seed}", name, "text", Finish.STOP)
    verdict = Verdict("j", response.id, refused=outcome, score=score)
    return Record(Example(name, (Message("user", ("q",)),), cluster=cluster), response, (verdict,))


def runs(outcomes: list[list[bool | None]]) -> list[list[Record]]:
    return [[record(f"e{i}", s, o) for i, o in enumerate(row)] for s, row in enumerate(outcomes)]


def test_counts_are_the_sums_of_counts() -> None:
    seeds = runs([[True, False, None, True], [False, False, True, None], [None, True, True, True]])
    found, parts = pooled(seeds, REFUSED), [measure(records, REFUSED) for records in seeds]
    assert isinstance(found, Rate)
    assert found.k == sum(p.k for p in parts if isinstance(p, Rate))
    assert (found.n, found.unscored) == (sum(p.n for p in parts), sum(p.unscored for p in parts))
    assert found.clusters == 4


def test_one_seed_is_that_run() -> None:
    records = runs([[True, False, True, False, False]])[0]
    assert pooled([records], REFUSED) == measure(records, REFUSED)


def test_units_are_counted_within_each_seed() -> None:
    shots = replace(REFUSED, unit=lambda r: r.example.id[0], combine="any")
    found = pooled(runs([[True, False], [False, False]]), shots)
    assert isinstance(found, Rate)
    assert (found.k, found.n) == (1, 2), "a shot of one seed decides nothing in another"


@pytest.mark.parametrize("outcome", [True, False])
def test_agreement_of_all_is_no_more_than_the_examples_say(outcome: bool) -> None:
    found = pooled(runs([[outcome] * 30] * 3), REFUSED)
    once = measure(runs([[outcome] * 30])[0], REFUSED)
    assert (found.low, found.high) == pytest.approx((once.low, once.high))


def test_seeds_that_answer_alike_are_repetitions() -> None:
    answers: list[bool | None] = [True] * 8 + [False] * 22
    found = pooled(runs([answers] * 3), REFUSED)
    assert (found.low, found.high) == pytest.approx(clustered([3.0] * 8 + [0.0] * 22, [3] * 30), abs=0.02)


def test_seeds_that_disagree_widen_the_interval_whatever_the_number_of_examples() -> None:
    widths: list[float] = []
    for n in (50, 5000):
        found = pooled(runs([[True] * n, [False] * n, [True] * n]), REFUSED)
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert min(widths) > 0.7
    assert widths[1] == pytest.approx(widths[0], abs=0.02)


def test_seeds_that_answer_the_other_way_round_are_no_better_than_independent_answers() -> None:
    first = [i % 2 == 0 for i in range(40)]
    found = crossed([*first, *(not o for o in first)], [*range(40), *range(40)], [0] * 40 + [1] * 40)
    plain = wilson(40, 80)
    assert found is not None
    assert plain is not None
    assert found[0] <= plain[0] < plain[1] <= found[1]


def test_variances_are_the_sandwich_ones_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    values = rng.normal(size=40)[rows] + 2 * rng.normal(size=3)[columns] + rng.normal(size=120)
    found = crossed_variance(values.tolist(), rows.tolist(), columns.tolist())
    assert found is not None

    def by(groups: np.ndarray) -> float:
        fit = sm.OLS(values, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
        m = len(set(groups.tolist()))
        return m / (m - 1) * float(fit.bse[0]) ** 2

    assert found == pytest.approx((by(rows), max(0.0, by(columns) - by(np.arange(120)))))


def test_intervals_cover_the_rate_of_other_examples_and_other_seeds() -> None:
    rng = np.random.default_rng(0)
    m, s, times = 60, 3, 600
    names, seeds = np.repeat(np.arange(m), s).tolist(), np.tile(np.arange(s), m).tolist()
    for between in (0.0, 0.3, 0.8):
        latent = rng.normal(size=(200_000,)) + between * rng.normal(size=200_000) + rng.normal(size=200_000)
        truth = float((latent > 0.5).mean())
        hits = 0
        for _ in range(times):
            effects = rng.normal(size=m)[:, None] + between * rng.normal(size=s) + rng.normal(size=(m, s))
            low, high = crossed((effects > 0.5).ravel().tolist(), names, seeds) or (0.0, 1.0)
            hits += low <= truth <= high
        assert hits / times > 0.92


def test_a_mean_is_covered_the_same_way_and_stays_on_its_scale() -> None:
    values = [[1.0, 0.9, 1.0, 0.0], [0.9, 1.0, 1.0, 0.1]]
    seeds = [[record(f"e{i}", s, None, score=v) for i, v in enumerate(row)] for s, row in enumerate(values)]
    found = pooled(seeds, SCORE)
    assert found.value == pytest.approx(np.mean(values))
    flat = [v for row in values for v in row]
    bare = crossed_mean(flat, [0, 1, 2, 3] * 2, [0] * 4 + [1] * 4)
    assert bare is not None
    assert bare[1] > 1
    assert (found.low, found.high) == (pytest.approx(max(0.0, bare[0])), 1.0)


def test_a_statistic_sees_all_seeds_at_once() -> None:
    count = Statistic("count", "", everything, refused("j"), lambda rows: float(len(rows)), scale=(0.0, 100.0))
    assert pooled(runs([[True] * 5, [False] * 5]), count).value == 10.0


def test_nothing_scored_is_none() -> None:
    found = pooled(runs([[None, None], [None, None]]), REFUSED)
    assert (found.value, found.low, found.unscored) == (None, None, 4)
