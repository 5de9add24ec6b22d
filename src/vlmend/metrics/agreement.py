"""How far a judge can be trusted: its answers against labels, its scores against outcomes, what that does to a rate.

An answer it did not judge is no error and no success: it is counted apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlmend.metrics.intervals import Z95, wilson
from vlmend.metrics.rates import of
from vlmend.types import Rate

BINS = 10


@dataclass(frozen=True)
class Confusion:
    """A judge's yes and no against the labels'; `abstained` are labeled answers that it did not judge."""

    tp: int
    fp: int
    fn: int
    tn: int
    abstained: int = 0

    @classmethod
    def of(cls, said: Sequence[bool | None], labels: Sequence[bool]) -> Confusion:
        """Count the judge's answers, None for none, against labels in the same order."""
        counted = Counter(zip(said, labels, strict=True))
        both = (counted[True, True], counted[True, False], counted[False, True], counted[False, False])
        return cls(*both, abstained=counted[None, True] + counted[None, False])

    @property
    def n(self) -> int:
        """Answers that were judged."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> Rate:
        """Of what the judge called yes, how much is: TP / (TP + FP)."""
        return _share(self.tp, self.fp)

    @property
    def recall(self) -> Rate:
        """Of what is yes, how much the judge called so: TP / (TP + FN), its sensitivity."""
        return _share(self.tp, self.fn)

    @property
    def specificity(self) -> Rate:
        """Of what is no, how much the judge called so: TN / (TN + FP)."""
        return _share(self.tn, self.fp)

    @property
    def accuracy(self) -> Rate:
        """Of what was judged, how much was judged right."""
        return _share(self.tp + self.tn, self.fp + self.fn)

    @property
    def kappa(self) -> float | None:
        """Cohen's κ (1960): agreement beyond chance, (p_o - p_e) / (1 - p_e); None where chance alone would agree."""
        if not self.n:
            return None
        yes = (self.tp + self.fp) * (self.tp + self.fn)
        no = (self.tn + self.fn) * (self.tn + self.fp)
        chance = (yes + no) / self.n**2
        return None if chance == 1 else ((self.tp + self.tn) / self.n - chance) / (1 - chance)


def cohen(ratings: Sequence[tuple[Any, Any]]) -> float | None:
    """Cohen's κ (1960) of two raters with any number of labels: (p_o - p_e) / (1 - p_e).

    None without pairs, and where chance alone would agree.
    """
    n = len(ratings)
    firsts, seconds = Counter(a for a, _ in ratings), Counter(b for _, b in ratings)
    chance = sum(firsts[label] * seconds[label] for label in firsts) / n**2 if n else 1.0
    return None if chance == 1 else (sum(a == b for a, b in ratings) / n - chance) / (1 - chance)


@dataclass(frozen=True)
class Cut:
    """What a judge would be if it said yes to every score above a threshold."""

    threshold: float
    confusion: Confusion


CUTS = 9  # thresholds at most


def cuts(scores: Sequence[float], labels: Sequence[bool]) -> tuple[Cut, ...]:
    """The confusion at each of some thresholds, ascending: along them recall and false positives can only fall.

    Where few scores differ, each but the largest; of probabilities else 0.1 to 0.9; of other numbers their deciles.
    """
    distinct = sorted(set(scores))
    if len(distinct) <= CUTS + 1:
        at = distinct[:-1]
    elif distinct[0] >= 0 and distinct[-1] <= 1:
        at = [i / (CUTS + 1) for i in range(1, CUTS + 1)]
    else:
        ranked = sorted(scores)
        at = sorted({ranked[len(ranked) * i // (CUTS + 1)] for i in range(1, CUTS + 1)})
    return tuple(Cut(t, Confusion.of([score > t for score in scores], labels)) for t in at)


def _share(k: int, rest: int) -> Rate:
    return of([True] * k + [False] * rest)


Level = Literal["nominal", "ordinal", "interval"]


def krippendorff(ratings: Sequence[Sequence[Any]], level: Level = "nominal") -> float | None:
    """Krippendorff's α (2011): 1 - D_o / D_e. Any number of raters, and gaps (None), are fine.

    `ratings` holds one sequence per answer with what each rater said. D_o = Σ_u 1/(m_u - 1) · Σ_{c≠k} n_uc n_uk δ² / n
    and D_e = Σ_{c≠k} n_c n_k δ² / (n(n - 1)), over answers that two or more rated. δ² is 1 for nominal labels; of
    grades, whose order is that of their values, (Σ_{g=c..k} n_g - (n_c + n_k)/2)²; of numbers, (c - k)². None where
    nothing varies.
    """
    units = [Counter(label for label in unit if label is not None) for unit in ratings]
    units = [unit for unit in units if unit.total() > 1]
    total: Counter[Any] = Counter()
    for unit in units:
        total.update(unit)
    apart = _distances(total, level)
    n = total.total()
    expected = sum(total[c] * total[k] * distance for (c, k), distance in apart.items())
    if not expected:
        return None
    observed = sum(
        sum(unit[c] * unit[k] * apart[c, k] for c in unit for k in unit if c != k) / (unit.total() - 1)
        for unit in units
    )
    return 1 - (n - 1) * observed / expected


def _distances(total: Counter[Any], level: Level) -> dict[tuple[Any, Any], float]:
    """δ² of each two labels that differ."""
    if level == "nominal":
        return {(c, k): 1.0 for c in total for k in total if c != k}
    order = sorted(total)
    found: dict[tuple[Any, Any], float] = {}
    for i, c in enumerate(order):
        for j, k in enumerate(order[i + 1 :], start=i + 1):
            between = sum(total[g] for g in order[i : j + 1]) - (total[c] + total[k]) / 2
            found[c, k] = found[k, c] = float(between if level == "ordinal" else k - c) ** 2
    return found


@dataclass(frozen=True)
class Bin:
    """Scores that fall together: how many, what the judge thinks of them on average, and how many are so."""

    low: float
    high: float
    n: int
    mean_score: float
    rate: Rate


@dataclass(frozen=True)
class Calibration:
    """Whether a score of 0.8 is right 8 times in 10: expected calibration error, Brier score, and the bins."""

    n: int
    ece: float
    brier: float
    bins: tuple[Bin, ...]


def calibration(scores: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> Calibration | None:
    """ECE = Σ n_b/n · |mean score - share of yes| over bins of equal width (Naeini et al. 2015); Brier = mean (s - y)².

    None without scores, or where one is no probability.
    """
    pairs = list(zip(scores, labels, strict=True))
    if not pairs or any(not 0 <= score <= 1 for score, _ in pairs):
        return None
    groups: dict[int, list[tuple[float, bool]]] = {}
    for score, label in pairs:
        groups.setdefault(min(int(score * bins), bins - 1), []).append((score, label))
    found = tuple(
        Bin(i / bins, (i + 1) / bins, len(g), sum(s for s, _ in g) / len(g), of([label for _, label in g]))
        for i, g in sorted(groups.items())
    )
    ece = sum(b.n / len(pairs) * abs(b.mean_score - (b.rate.value or 0.0)) for b in found)
    return Calibration(len(pairs), ece, sum((s - y) ** 2 for s, y in pairs) / len(pairs), found)


@dataclass(frozen=True)
class Corrected:
    """A rate as it would be if the judge made no errors, with the doubt about those errors in its interval.

    Where the judge cannot be told from a coin, the interval is [0, 1] and `why` says so.
    """

    value: float | None
    low: float
    high: float
    why: str = ""


def rogan_gladen(measured: Rate, recall: Rate, specificity: Rate, z: float = Z95) -> Corrected:
    """(p + sp - 1) / (se + sp - 1), clipped (Rogan and Gladen 1978), with Lang and Reiczigel's interval (2014).

    The interval adds z²/2 successes of z² to p and one of two to se and sp, takes the delta method's variance
    p(1 - p)/n + (1 - π)² sp(1 - sp)/n_sp + π² se(1 - se)/n_se over (se + sp - 1)², and shifts the center by
    2z²(π se(1 - se)/n_se - (1 - π) sp(1 - sp)/n_sp). A rate of clusters counts with its effective n.
    """
    if measured.value is None or recall.value is None or specificity.value is None:
        return Corrected(None, 0.0, 1.0, "nothing was scored, or no label says how the judge errs")
    youden = recall.value + specificity.value - 1
    value = min(1.0, max(0.0, (measured.value + specificity.value - 1) / youden)) if youden > 0 else None
    if (recall.low or 0.0) + (specificity.low or 0.0) <= 1:
        return Corrected(value, 0.0, 1.0, "the judge cannot be told from a coin: recall + specificity may be 1")
    n = effective_n(measured) + z * z
    p = (measured.value * (n - z * z) + z * z / 2) / n
    n_se, n_sp = recall.n + 2, specificity.n + 2
    se, sp = (recall.k + 1) / n_se, (specificity.k + 1) / n_sp
    share = (p + sp - 1) / (se + sp - 1)
    doubt_se, doubt_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    spread = math.sqrt(p * (1 - p) / n + (1 - share) ** 2 * doubt_sp + share**2 * doubt_se) / (se + sp - 1)
    center = share + 2 * z * z * (share * doubt_se - (1 - share) * doubt_sp)
    low, high = (min(1.0, max(0.0, center + side * z * spread)) for side in (-1, 1))
    return Corrected(value, low, high)


def effective_n(rate: Rate) -> float:
    """How many independent answers would have the rate's interval: n itself where there are no clusters."""
    if not rate.clusters or rate.low is None or rate.high is None:
        return float(rate.n)
    width, p = rate.high - rate.low, rate.value or 0.0
    low, high = 1e-6, float(rate.n)
    for _ in range(100):
        middle = (low + high) / 2
        edges = wilson(p * middle, middle) or (0.0, 1.0)
        low, high = (middle, high) if edges[1] - edges[0] > width else (low, middle)
    return high
