"""One number for several runs that differ in their seed only, with an interval for other examples and other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlmend.metrics.intervals import crossed, crossed_mean
from vlmend.metrics.rates import cluster, measure, of, units
from vlmend.types import Measure, Measured, Metric, Record, Score


def pooled(seeds: Sequence[Sequence[Record]], what: Measure) -> Measured:
    """The measure of all records of all seeds: k, n and unscored are the sums of theirs.

    Each seed is asked the same examples, so that answers hang together by example (or its cluster) and by seed. The
    interval covers what other examples and other seeds would have given (see `crossed_variance`): three seeds that
    disagree make it wide, whatever the number of examples. Where all answers agree (0 of n, n of n), the seeds count
    as repetitions, and n is the number of clusters. That of a Statistic covers other examples only.
    """
    together = [record for records in seeds for record in records]
    if len(seeds) < 2 or not isinstance(what, Metric | Score):
        return measure(together, what)
    asked = [[r for r in records if what.applies(r.example)] for records in seeds]
    return _rate(asked, what) if isinstance(what, Metric) else _mean(asked, what, measure(together, what))


def _rate(asked: Sequence[Sequence[Record]], what: Metric) -> Measured:
    found = [(o, name, i) for i, records in enumerate(asked) for o, name in zip(*units(records, what), strict=True)]
    plain = of([outcome for outcome, _, _ in found], [name for _, name, _ in found])
    scored = [(outcome, name, seed) for outcome, name, seed in found if outcome is not None]
    interval = crossed(*map(list, zip(*scored, strict=True))) if scored else None
    return plain if interval is None else replace(plain, low=interval[0], high=interval[1])


def _mean(asked: Sequence[Sequence[Record]], what: Score, plain: Measured) -> Measured:
    rows = [(what.outcome(r), cluster(r), seed) for seed, records in enumerate(asked) for r in records]
    scored = [(value, name, seed) for value, name, seed in rows if value is not None]
    interval = crossed_mean(*map(list, zip(*scored, strict=True))) if scored else None
    if interval is None:
        return plain
    return replace(plain, low=max(interval[0], what.scale[0]), high=min(interval[1], what.scale[1]))
