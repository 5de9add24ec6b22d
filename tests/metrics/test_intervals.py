"""The intervals against independent implementations and the published reading of VLGuard's tables."""

import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from vlmend.metrics.intervals import paired_difference, wilson


@pytest.mark.parametrize("n", [1, 2, 7, 50, 442, 558, 10_000])
def test_wilson_equals_scipy_and_statsmodels(n: int) -> None:
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        interval = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-9)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 442, 0, 0.86),
        (1, 442, 0.04, 1.27),
        (4, 442, 0.35, 2.30),
        (5, 558, 0.38, 2.08),
        (7, 558, 0.61, 2.57),
        (0, 500, 0, 0.76),
        (202, 250, 75.5, 85.2),
        (193, 250, 71.6, 82.0),
        (228, 250, 87.0, 94.1),
        (105, 558, 15.8, 22.3),
    ],
)
def test_wilson_of_published_rates(k: int, n: int, low: float, high: float) -> None:
    interval = wilson(k, n)
    assert interval is not None
    digits = 2 if n in (442, 558, 500) and k < 10 else 1
    assert (round(100 * interval[0], digits), round(100 * interval[1], digits)) == (low, high)


def test_nothing_is_known_of_nothing() -> None:
    assert wilson(0, 0) is None
    assert paired_difference(0, 0, 0) is None


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(k, n)


def test_paired_difference_by_hand() -> None:
    """9 lost, 1 gained of 98: centers 0.10 and 0.02, variance (0.12 - 0.0064) / 100."""
    low, high = paired_difference(9, 1, 98) or (0, 0)
    half = 1.959963984540054 * (0.1136 / 100) ** 0.5
    assert (low, high) == pytest.approx((-0.08 - half, -0.08 + half))
    assert paired_difference(3, 3, 40) == pytest.approx(tuple(-x for x in reversed(paired_difference(3, 3, 40) or ())))
