"""Intervals: what k of n, or n numbers, say about the rate or mean behind them, also where the n hang together."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # the normal quantile at 0.975
RESAMPLES = 2000
SEED = 20_240_613  # fixed, so that the same records have the same interval
CHUNK = 4_000_000  # drawn numbers held at a time

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = TypeVar("Row")


def wilson(k: float, n: float, z: float = Z95) -> tuple[float, float] | None:
    """Wilson's score interval of k successes in n trials; None for n = 0, where nothing is known.

    Center (p + z²/2n) / (1 + z²/n), half-width z/(1 + z²/n) · sqrt(p(1 - p)/n + z²/4n²); E. B. Wilson 1927.
    Unlike the plain normal interval it is honest at 0 of n and n of n, where safety results live.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must lie between 0 and n, got k={k}, n={n}")
    if n == 0:
        return None
    p, shrink = k / n, 1 + z * z / n
    center = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, center - half)
    high = 1.0 if k == n else min(1.0, center + half)
    return low, high


def design_effect(sums: Sequence[float], sizes: Sequence[int], squares: float | None = None) -> float:
    """How many times larger the variance of a mean is than if its n values were independent, at least 1.

    deff = v_c / v_0 with v_0 = (q - p²)/(n - 1), p the mean of the values and q that of their `squares` (q = p for
    successes), and over m clusters with sums y_i of n_i values v_c = m/(m - 1) · Σ(y_i - p n_i)² / n² (Kish 1965; the
    sandwich variance of an intercept). Where nothing varies (0 of n, n of n) or there is one cluster only, the data
    say nothing about dependence, and the worst is assumed: Σn_i²/n, as if a cluster were one answer many times.
    """
    y, size = np.asarray(sums, np.float64), np.asarray(sizes, np.float64)
    n, m = float(size.sum()), len(size)
    p = float(y.sum()) / n
    variance = (p if squares is None else squares / n) - p * p
    if variance <= 0 or m < 2:
        return float((size**2).sum()) / n
    robust = m / (m - 1) * float(((y - p * size) ** 2).sum()) / n**2
    return max(1.0, robust / (variance / (n - 1)))


def clustered(successes: Sequence[float], sizes: Sequence[int]) -> tuple[float, float] | None:
    """Wilson's interval with n divided by the design effect; t of m - 1 degrees of freedom in place of z.

    The modified Wilson interval with effective sample size, found best among eight by Dean and Pagano 2015 (J. Survey
    Stat. Methodol. 3); never narrower than the plain one. The t is for the design effect being an estimate, so that
    where it is assumed (see `design_effect`) z stays.
    """
    n, m = sum(sizes), len(sizes)
    if n == 0:
        return None
    k = float(sum(successes))
    effective = n / design_effect(successes, sizes)
    z = _t95(m - 1) if m > 1 and 0 < k < n else Z95
    return wilson(effective if k == n else k / n * effective, effective, z)


def crossed_variance(
    values: Sequence[float], rows: Sequence[Hashable], columns: Sequence[Hashable]
) -> tuple[float, float] | None:
    """Variance of a mean whose values hang together by row and by column, as by example and by seed: V_rows, and what
    columns add to it, max(0, V_columns - V_cells).

    V_g = g/(g - 1) · Σ(sum of deviations in a group)² / n² over g groups. Their sum is the two-way cluster-robust
    variance of Cameron, Gelbach and Miller 2011 (eq. 2.11), but columns take nothing away, and V_rows is at least what
    it would be for independent values. None where nothing varies, or with one row or one column.
    """
    d = np.asarray(values, np.float64)
    if not len(d) or len(set(rows)) < 2 or len(set(columns)) < 2:
        return None
    d = d - d.mean()
    if not d.any():
        return None

    def variance(groups: Sequence[Hashable]) -> float:
        sums = np.bincount(numbered(groups), weights=d)
        return len(sums) / (len(sums) - 1) * float((sums**2).sum()) / len(d) ** 2

    alone = float((d**2).sum()) / (len(d) - 1) / len(d)
    between = variance(columns) - variance(list(zip(rows, columns, strict=True)))
    return max(alone, variance(rows)), max(0.0, between)


def _crossed_error(values: Sequence[float], rows: Sequence[Hashable], columns: Sequence[Hashable]) -> float | None:
    """Half the width of the mean's interval, √(t²_{r-1} V_rows + t²_{c-1} V_between).

    Each part has the t of its own number of groups: that of three columns is 4.3, as three say little of all others.
    """
    found = crossed_variance(values, rows, columns)
    if found is None:
        return None
    by_row, between = found
    return math.sqrt(_t95(len(set(rows)) - 1) ** 2 * by_row + _t95(len(set(columns)) - 1) ** 2 * between)


def crossed(
    outcomes: Sequence[bool], rows: Sequence[Hashable], columns: Sequence[Hashable]
) -> tuple[float, float] | None:
    """Interval of a rate that hangs together by row and by column: Wilson's, with the n at which it is as uncertain.

    None as for `crossed_variance`.
    """
    half = _crossed_error([float(o) for o in outcomes], rows, columns)
    if half is None:
        return None
    p = sum(outcomes) / len(outcomes)
    effective = p * (1 - p) * (Z95 / half) ** 2
    return wilson(p * effective, effective)


def crossed_mean(
    values: Sequence[float], rows: Sequence[Hashable], columns: Sequence[Hashable]
) -> tuple[float, float] | None:
    """Interval of a mean that hangs together by row and by column; None as for `crossed_variance`."""
    half = _crossed_error(values, rows, columns)
    mean = sum(values) / len(values) if values else 0.0
    return None if half is None else (mean - half, mean + half)


def _t95(degrees: int) -> float:
    from scipy.special import stdtrit  # half as long to import as scipy.stats

    return float(stdtrit(degrees, 0.975))


def paired_difference(lost: float, gained: float, n: float, z: float = Z95) -> tuple[float, float] | None:
    """Interval of (gained - lost) / n from n pairs of which `lost` and `gained` changed; None for n = 0.

    The adjusted Wald interval of Bonett and Price 2012, eq. 6: add one to both discordant counts and two to n.
    """
    if n == 0:
        return None
    down, up = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    half = z * math.sqrt((down + up - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def clustered_difference(differences: Sequence[int], clusters: Sequence[Hashable]) -> tuple[float, float] | None:
    """The same interval from differences of -1, 0 or 1 that hang together: all counts divided by the design effect."""
    if not differences:
        return None
    which = numbered(clusters)
    d = np.asarray(differences)
    sums, sizes = np.bincount(which, weights=d), np.bincount(which)
    changed = float(np.abs(d).sum())
    deff = design_effect(sums.tolist(), sizes.tolist(), changed)
    z = _t95(len(sizes) - 1) if len(sizes) > 1 and changed else Z95
    return paired_difference(float((d < 0).sum()) / deff, float((d > 0).sum()) / deff, len(d) / deff, z)


def numbered(names: Sequence[Hashable]) -> Ints:
    """The number of each name, in order of first appearance."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in names], np.int64)


ENDLESS = (-math.inf, math.inf)


def bootstrap_mean(
    values: Sequence[float], clusters: Sequence[Hashable], scale: tuple[float, float] = ENDLESS
) -> tuple[float, float] | None:
    """Percentile interval of a mean, drawing whole clusters with replacement; None with fewer than two clusters.

    A draw of clusters with total sums S and sizes N gives S/N (Davison and Hinkley 1997, sections 2.4 and 3.8). Where
    nothing varies, it is what values elsewhere on the `scale` may be worth (see `unseen`).
    """
    if not values:
        return None
    which = numbered(clusters)
    sums = np.bincount(which, weights=np.asarray(values, np.float64)).astype(np.float64)
    sizes = np.bincount(which).astype(np.float64)
    m = len(sizes)
    if m < 2:
        return None
    if min(values) == max(values):
        return unseen(values[0], float(sizes.sum() ** 2 / (sizes**2).sum()), scale)
    order = np.lexsort((sizes, sums))  # the interval must not depend on the order of the records
    sums, sizes = sums[order], sizes[order]
    found = np.empty(RESAMPLES)
    rng = np.random.default_rng(SEED)
    step = max(1, CHUNK // m)
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(0, m, size=(min(step, RESAMPLES - start), m))
        found[start : start + step] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return _ends(found)


def unseen(value: float, n: float, scale: tuple[float, float], z: float = Z95) -> tuple[float, float] | None:
    """Interval around a number that was the same in n units: none of them was any other, which others may be.

    The share of those is at most z²/(n + z²), Wilson's bound for 0 of n, and each is at worst at an end of the scale.
    None where the scale has no end, for there one other unit may be worth anything.
    """
    low, high = scale
    if not math.isfinite(high - low):
        return None
    share = z * z / (n + z * z)
    return value - share * (value - low), value + share * (high - value)


def bootstrap(
    rows: Sequence[Row],
    clusters: Sequence[str],
    compute: Callable[[Sequence[Row]], float | None],
    strata: Sequence[str] = (),
    times: int = 500,
    *,
    contrary: Callable[[Row], Row] | None = None,
    scale: tuple[float, float] = ENDLESS,
) -> tuple[float, float] | None:
    """Percentile interval of any statistic of the rows, drawing whole clusters with replacement, within each stratum.

    None with fewer than two clusters in a stratum, or where most draws leave the statistic undefined.

    Answers that all agree would make every draw the same, and the interval a point. Where it is known what the
    `contrary` of a row is, two clusters are thought to stand beside the n that were seen, in which each answer was left
    to a coin: a cluster that is drawn is such a one with probability 2/(n + 2). For the share of yes among single
    answers this is a draw from (k + 1)/(n + 2), Laplace's rule, which is what a uniform prior expects. The interval
    spans both kinds of draws. Strata count as the mean over them does, n = S²/Σ 1/n_s. Where no draw differs, as may be
    where no `contrary` is known, see `unseen`.
    """
    groups: dict[str, dict[str, list[Row]]] = {}
    for row, name, stratum in zip(rows, clusters, strata or [""] * len(rows), strict=True):
        groups.setdefault(stratum, {}).setdefault(name, []).append(row)
    members = [[groups[s][name] for name in sorted(groups[s])] for s in sorted(groups)]
    if not members or min(map(len, members)) < 2:
        return None
    n = len(members) ** 2 / sum(1 / len(m) for m in members)
    rng = np.random.default_rng(SEED)
    found: list[float | None] = []
    turned: list[float | None] = []
    for _ in range(times):
        drawn = [m[i] for m in members for i in rng.integers(0, len(m), len(m)).tolist()]
        found.append(compute([row for some in drawn for row in some]))
        if contrary:
            turned.append(compute(_turned(drawn, contrary, 2 / (n + 2), rng)))
    ends = [_ends(np.array(known)) for draws in (found, turned) if 2 * len(known := _known(draws)) > times]
    if not _known(found) or not ends:
        return None
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return unseen(low, n, scale) if low == high else (low, high)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _turned(
    drawn: Sequence[Sequence[Row]], contrary: Callable[[Row], Row], share: float, rng: np.random.Generator
) -> list[Row]:
    """All rows of the clusters, those of a random share of them turned round by the toss of a coin."""
    picked = rng.random(len(drawn)) < share
    return [
        contrary(row) if turned else row
        for rows, pick in zip(drawn, picked.tolist(), strict=True)
        for row, turned in zip(
            rows, (rng.random(len(rows)) < 0.5).tolist() if pick else [False] * len(rows), strict=True
        )
    ]


def _ends(found: Floats) -> tuple[float, float]:
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)
