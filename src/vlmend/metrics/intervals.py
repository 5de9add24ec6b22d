"""Intervals for a proportion: what k of n says about the rate behind it."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # the normal quantile at 0.975


def wilson(k: int, n: int, z: float = Z95) -> tuple[float, float] | None:
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


def paired_difference(lost: int, gained: int, n: int, z: float = Z95) -> tuple[float, float] | None:
    """Interval of (gained - lost) / n from n pairs of which `lost` and `gained` changed; None for n = 0.

    The adjusted Wald interval of Bonett and Price 2012, eq. 6: add one to both discordant counts and two to n.
    """
    if n == 0:
        return None
    down, up = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    half = z * math.sqrt((down + up - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)
