"""Before and after on the same examples: who changed, in which direction, and whether chance explains it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vlmend.metrics.intervals import SEED, bootstrap, bootstrap_mean, clustered_difference, numbered, paired_difference
from vlmend.metrics.outcomes import by_refusal
from vlmend.metrics.rates import cluster, combined
from vlmend.types import Better, Measure, Metric, Outcome, Record, Score, Statistic

FLIPS = 10_000  # random sign flips where all cannot be counted
COUNTABLE = 500_000_000  # steps of the exact count, about a second
TURNED = ((True, False), (False, True), (True, True))  # which of two answers is another one
Item = TypeVar("Item")


class Two(NamedTuple):
    """The same example in two runs."""

    before: Record
    after: Record


@dataclass(frozen=True)
class Pairing:
    """Answers of two runs joined by example, sample and question, and those that only one of them has.

    `other` are ids that both have, under which each asks something else.
    """

    pairs: tuple[Two, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One yes/no metric before and after, on the pairs scored in both. `p` is two-sided.

    `gained` pairs have the outcome only after, `lost` only before; the others say nothing about a change. Where pairs
    hang together, `clusters` counts what does not, and interval and p are those of clusters.
    """

    metric: str
    n: int
    unscored: int
    k_before: int
    k_after: int
    lost: int
    gained: int
    low: float | None
    high: float | None
    p: float | None
    mid_p: float | None
    clusters: int = 0
    better: Better = "low"
    holm: float | None = None  # p corrected for how many were looked at
    marked: str = ""  # what is wrong with a judge on either side

    @property
    def difference(self) -> float | None:
        """Rate after minus rate before."""
        return (self.k_after - self.k_before) / self.n if self.n else None

    @property
    def nearer(self) -> float | None:
        """By how much the rate came nearer to its best value; None where that is no value inside its range."""
        return _nearer(self.k_before / self.n, self.k_after / self.n, self.better) if self.n else None


@dataclass(frozen=True)
class Shift:
    """A mean or a statistic before and after, on the pairs scored in both, with bootstrap interval and two-sided p."""

    metric: str
    n: int
    unscored: int
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    p: float | None
    clusters: int
    scale: tuple[float, float] = (0.0, 1.0)
    measured_in: str = ""
    better: Better = "high"
    holm: float | None = None
    marked: str = ""

    @property
    def difference(self) -> float | None:
        """Value after minus value before."""
        return None if self.after is None or self.before is None else self.after - self.before

    @property
    def nearer(self) -> float | None:
        """By how much the value came nearer to its best one; None where that is none inside its range."""
        known = self.after is not None and self.before is not None
        return _nearer(self.before or 0.0, self.after or 0.0, self.better) if known else None


def _nearer(before: float, after: float, better: Better) -> float | None:
    """How much less far after is from the best value than before."""
    return None if isinstance(better, str) or better is None else abs(before - better) - abs(after - better)


def pair(before: Iterable[Record], after: Iterable[Record]) -> Pairing:
    """Join two runs by example id, sample and content, in the order of the first.

    The questions as asked may differ: the second run may have been attacked. What they were before that is the same,
    text and picture, or they are not joined, whatever their ids (where one side does not know it, the id has to do).
    Variants that an attack made are each joined to the example they come from.
    """
    first = {(r.example.id, r.response.sample): r for r in before}
    partners: dict[tuple[str, int], list[Record]] = {}
    strangers: list[str] = []
    other: list[str] = []
    for record in after:
        names = ((name, record.response.sample) for name in (record.example.id, record.example.origin))
        key = next((name for name in names if name in first), None)
        if key is None:
            strangers.append(record.example.id)
        elif not same_question(first[key], record):
            other.append(key[0])
        else:
            partners.setdefault(key, []).append(record)
    apart = set(other)
    return Pairing(
        tuple(Two(record, match) for key, record in first.items() for match in partners.get(key, ())),
        tuple(dict.fromkeys(name for name, sample in first if (name, sample) not in partners and name not in apart)),
        tuple(dict.fromkeys(strangers)),
        tuple(dict.fromkeys(other)),
    )


def same_question(one: Record, other: Record) -> bool:
    """Whether two records ask the same, before any attack; so it is taken to be where one does not know."""
    return "" in (one.content, other.content) or one.content == other.content


Became = Callable[[Record], Outcome]  # of a suite


def transitions(pairs: Iterable[Two], became: Became = by_refusal) -> dict[tuple[Outcome, Outcome], int]:
    """How many pairs went from which outcome to which, most frequent first."""
    counted = Counter((became(p.before), became(p.after)) for p in pairs)
    return dict(counted.most_common())


def flipped(pairs: Iterable[Two], became: Became = by_refusal) -> list[tuple[Outcome, Outcome, Two]]:
    """The pairs whose outcome changed, with both."""
    named = [(became(p.before), became(p.after), p) for p in pairs]
    return [item for item in named if item[0] != item[1]]


def change(pairs: Iterable[Two], metric: Measure) -> Change | Shift:
    """The metric's change, on the pairs it applies to. The populations of both sides are those of the first."""
    asked = [p for p in pairs if metric.applies(p.before.example)]
    if isinstance(metric, Metric):
        return _change(asked, metric)
    scored = [p for p in asked if metric.outcome(p.before) is not None and metric.outcome(p.after) is not None]
    return _shift(metric, scored, len(asked) - len(scored))


def _cluster(two: Two, metric: Score | Statistic) -> str:
    return cluster(two.before) if isinstance(metric, Score) else (metric.unit or cluster)(two.before)


def _change(asked: Sequence[Two], metric: Metric) -> Change:
    outcomes = _units(asked, metric)
    scored = [(b, a, name) for b, a, name in outcomes if b is not None and a is not None]
    differences = [int(a) - int(b) for b, a, _ in scored]
    names = [name for _, _, name in scored]
    lost, gained = differences.count(-1), differences.count(1)
    clusters = len(set(names)) if len(set(names)) < len(names) else 0
    interval = clustered_difference(differences, names) if clusters else paired_difference(lost, gained, len(scored))
    tested = sign_flip(summed(differences, names)) if clusters else mcnemar(lost, gained)
    low, high = interval or (None, None)
    p, mid_p = tested if scored else (None, None)
    return Change(
        metric.name, n=len(scored), unscored=len(outcomes) - len(scored),
        k_before=sum(b for b, _, _ in scored), k_after=sum(a for _, a, _ in scored),
        lost=lost, gained=gained, low=low, high=high, p=p, mid_p=mid_p, clusters=clusters,
        better=metric.better,
    )  # fmt: skip


def _units(asked: Sequence[Two], metric: Metric) -> list[tuple[bool | None, bool | None, str]]:
    """Outcome before, outcome after and cluster of each unit: of each pair where the metric has none."""
    if metric.unit is None:
        return [(metric.outcome(p.before), metric.outcome(p.after), cluster(p.before)) for p in asked]
    found: dict[str, list[Two]] = {}
    for two in asked:
        found.setdefault(metric.unit(two.before), []).append(two)
    return [
        (
            combined([metric.outcome(p.before) for p in group], metric),
            combined([metric.outcome(p.after) for p in group], metric),
            cluster(group[0].before),
        )
        for group in found.values()
    ]


def _shift(metric: Score | Statistic, scored: Sequence[Two], unscored: int) -> Shift:
    def compute(rows: Sequence[Any]) -> float | None:
        if not rows:
            return None
        return metric.compute(rows) if isinstance(metric, Statistic) else sum(rows) / len(rows)

    def difference(rows: Sequence[tuple[Any, Any]]) -> float | None:
        before, after = compute([b for b, _ in rows]), compute([a for _, a in rows])
        return None if before is None or after is None else after - before

    rows: list[tuple[Any, Any]] = [(metric.outcome(p.before), metric.outcome(p.after)) for p in scored]
    names = [_cluster(p, metric) for p in scored]
    before, after = compute([b for b, _ in rows]), compute([a for _, a in rows])
    reach = metric.scale[1] - metric.scale[0]
    scale = -reach, reach
    if isinstance(metric, Score):
        differences = [a - b for b, a in rows]
        interval, p = bootstrap_mean(differences, names, scale), random_flip(summed(differences, names))
    else:
        strata = [metric.stratum(p.before) for p in scored] if metric.stratum else []
        drawn = metric.resample and difference(rows) is not None
        interval = (
            bootstrap(rows, names, difference, strata, contrary=_contrary(metric), scale=scale) if drawn else None
        )
        p = _swapped(rows, names, difference)
    low, high = interval or (None, None)
    return Shift(
        metric.name, len(rows), unscored, before, after, low, high, p, len(set(names)), metric.scale,
        metric.measured_in, metric.better,
    )  # fmt: skip


def _contrary(metric: Statistic) -> Callable[[tuple[Any, Any]], tuple[Any, Any]] | None:
    """A pair as it would have been had one of its answers, or both, been the other one."""
    turn = metric.contrary
    if turn is None:
        return None
    sides = np.random.default_rng(SEED)

    def turned(row: tuple[Any, Any]) -> tuple[Any, Any]:
        before, after = row
        first, second = TURNED[int(sides.integers(len(TURNED)))]
        return turn(before) if first else before, turn(after) if second else after

    return turned


def _swapped(rows: Sequence[tuple[Any, Any]], names: Sequence[str], difference: Any, times: int = 500) -> float | None:
    """Two-sided p of a difference when before and after are swapped in whole clusters at random."""
    observed: float | None = difference(rows) if rows else None
    if observed is None:
        return None
    which = numbered(names)
    swaps = np.random.default_rng(SEED).integers(0, 2, size=(times, int(which.max()) + 1)).astype(bool)
    found = (
        difference([(a, b) if s else (b, a) for (b, a), s in zip(rows, swap[which], strict=True)]) for swap in swaps
    )
    extreme = sum(value is not None and abs(value) >= abs(observed) - 1e-12 for value in found)
    return (1 + extreme) / (1 + times)


def summed(differences: Sequence[float], names: Sequence[str]) -> list[float]:
    """The sum of the differences of each cluster, in an order that does not depend on that of the pairs."""
    found: dict[str, float] = {}
    for value, name in zip(differences, names, strict=True):
        found[name] = found.get(name, 0) + value
    return [found[name] for name in sorted(found)]


def sign_flip(sums: Sequence[float]) -> tuple[float, float]:
    """Exact two-sided p and mid-p that whole clusters are as likely to change in one direction as in the other.

    `sums` are integers, after minus before summed within each cluster; under the null hypothesis each has either sign
    with probability 1/2 (Pitman's randomization test, 1937). P(|S| >= |s|), counted exactly, or from the normal
    distribution where that would take many seconds. For clusters of one pair it is McNemar's exact test.
    """
    sizes = [abs(int(value)) for value in sums if value]
    reach, observed = sum(sizes), abs(int(sum(sums)))
    if not sizes:
        return 1.0, 1.0
    if len(sizes) * reach > COUNTABLE:
        z = observed / math.sqrt(sum(size**2 for size in sizes))
        return math.erfc(z / math.sqrt(2)), math.erfc(z / math.sqrt(2))
    chance = np.zeros(2 * reach + 1)  # of S = -reach … reach
    chance[reach] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # never wraps: mass stays within the sum so far
    beyond = float(chance[reach + observed + 1 :].sum())
    at = float(chance[reach + observed])
    return (1.0, 1 - at / 2) if observed == 0 else (min(1.0, 2 * (beyond + at)), 2 * beyond + at)


def random_flip(sums: Sequence[float]) -> float | None:
    """The same p for sums that are no integers, from random signs: (1 + those as extreme) / (1 + FLIPS)."""
    if not sums:
        return None
    d = np.asarray(sums, np.float64)
    rng = np.random.default_rng(SEED)
    step = max(1, 4_000_000 // len(d))
    observed, extreme = abs(float(d.sum())), 0
    for start in range(0, FLIPS, step):
        signs = rng.integers(0, 2, size=(min(step, FLIPS - start), len(d))) * 2 - 1
        extreme += int((np.abs(signs @ d) >= observed - 1e-12).sum())
    return (1 + extreme) / (1 + FLIPS)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): of m tests, the i-th smallest p times m - i + 1, never falling, at most 1.

    Of all null hypotheses that are true, one or more is rejected at alpha with probability at most alpha, however the
    tests depend on one another. None stays None and is not counted.
    """
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    floor = 0.0
    for rank, (p, i) in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * p))
        corrected[i] = floor
    return corrected


def mcnemar(lost: int, gained: int) -> tuple[float, float]:
    """Exact two-sided p and mid-p of McNemar's test: are changes in both directions equally likely?

    Exact: min(1, 2 P(X <= min(lost, gained))), X ~ Binomial(lost + gained, 1/2). Mid-p counts the observed value
    half (Fagerland, Lydersen and Laake 2013, eq. 3): the exact test is too cautious where few pairs change.
    """
    n, k = lost + gained, min(lost, gained)
    if n == 0:
        return 1.0, 1.0
    at, below = math.comb(n, k), sum(math.comb(n, i) for i in range(k))
    exact = min(1.0, 2 * (below + at) / 2**n)
    mid = 1 - at / 2 ** (n + 1) if lost == gained else (2 * below + at) / 2**n
    return exact, mid
