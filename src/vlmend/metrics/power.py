"""Before a run: how many examples it takes to see a difference, and which difference so many examples can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from vlmend.errors import UsageError

_NORMAL = NormalDist()
LARGEST = 10_000_000  # examples; what takes more cannot be shown


@dataclass(frozen=True)
class Design:
    """What is compared: two rates near `base`, on the same examples (`paired`) or on two sets of n each.

    `discordant` is the share of pairs whose outcome changes, in whichever direction; None is the share there would be
    if the two outcomes of an example had nothing to do with each other, p(1 - q) + q(1 - p): more than in any real
    comparison, so that nothing is promised. Look it up in an earlier one. Examples come in clusters of `cluster_size`
    whose outcomes correlate by `icc`.
    """

    base: float
    power: float = 0.8
    alpha: float = 0.05
    paired: bool = True
    discordant: float | None = None
    cluster_size: float = 1.0
    icc: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("base", 0, 1), ("power", 0, 1), ("alpha", 0, 1)):
            value: float = getattr(self, name)
            if not low <= value <= high or (name != "base" and value in (0, 1)):
                raise UsageError(f"{name} must lie between {low} and {high}, got {value:g}")
        if self.alpha >= self.power:
            raise UsageError(f"power {self.power:g} must be above alpha {self.alpha:g}")
        if self.cluster_size < 1:
            raise UsageError(f"cluster size must be at least 1, got {self.cluster_size:g}")
        if not 0 <= self.icc <= 1:
            raise UsageError(f"icc must lie between 0 and 1, got {self.icc:g}")
        if self.discordant is not None and not 0 < self.discordant <= 1:
            raise UsageError(f"discordant must lie above 0 and be at most 1, got {self.discordant:g}")
        if self.discordant is not None and not self.paired:
            raise UsageError("discordant pairs exist only on the same examples; leave out --discordant or --unpaired")

    @property
    def design_effect(self) -> float:
        """1 + (cluster size - 1) · icc: by how much clusters inflate the variance (Kish 1965)."""
        return 1 + (self.cluster_size - 1) * self.icc


def power_at(design: Design, n: float, difference: float) -> float:
    """The probability that a two-sided test at alpha with n examples (of each side, if unpaired) finds the difference.

    Unpaired: z test with pooled variance under the null hypothesis (Fleiss 1981, eq. 3.14 without continuity). Paired:
    McNemar's, with share ψ of pairs discordant, variance ψ under the null and ψ - δ² else (Connor 1987, eq. 5). Both
    with n divided by the design effect.
    """
    effective = n / design.design_effect
    null, other = _deviations(design, difference)
    z = _NORMAL.inv_cdf(1 - design.alpha / 2)
    if other == 0:  # every pair changes in one direction: no chance is left in it
        return float(abs(difference) * math.sqrt(effective) >= z * null)
    shift = difference * math.sqrt(effective)
    return _NORMAL.cdf((shift - z * null) / other) + _NORMAL.cdf((-shift - z * null) / other)


def _deviations(design: Design, difference: float) -> tuple[float, float]:
    """Standard deviations of one example's contribution, under the null hypothesis and under the difference."""
    p, q = design.base, design.base + difference
    if design.paired:
        discordant = p * (1 - q) + q * (1 - p) if design.discordant is None else design.discordant
        discordant = max(discordant, abs(difference))
        return math.sqrt(discordant), math.sqrt(max(0.0, discordant - difference**2))
    mean = (p + q) / 2
    return math.sqrt(2 * mean * (1 - mean)), math.sqrt(p * (1 - p) + q * (1 - q))


def examples_for(design: Design, difference: float) -> int:
    """How many examples (of each side, if unpaired) show the difference with the wanted power."""
    _check(design, difference)

    def enough(n: float) -> bool:
        return power_at(design, n, difference) >= design.power

    if not enough(LARGEST):
        raise UsageError(f"a difference of {difference:g} takes more than {LARGEST:,} examples to be seen")
    return math.ceil(_first(enough, 0.0, LARGEST) - 1e-6)


def difference_for(design: Design, n: int, direction: int = -1) -> float | None:
    """The smallest difference from the base rate that n examples show with the wanted power; None if none is.

    `direction` is -1 for a fall, as of attack success, and 1 for a rise.
    """
    if n < 1:
        raise UsageError(f"n must be at least 1, got {n}")
    room = design.base if direction < 0 else 1 - design.base

    def enough(size: float) -> bool:
        return power_at(design, n, direction * size) >= design.power

    if room <= 0 or not enough(room):
        return None
    return direction * _first(enough, 0.0, room)


def _check(design: Design, difference: float) -> None:
    if difference == 0:
        raise UsageError("no number of examples shows a difference of 0")
    if not 0 <= design.base + difference <= 1:
        raise UsageError(f"base {design.base:g} and difference {difference:g} make no rate between 0 and 1")
    if design.discordant is not None and design.discordant < abs(difference):
        raise UsageError(
            f"a difference of {difference:g} needs at least as many discordant pairs, got {design.discordant:g}"
        )


def _first(enough: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at `high` and, once it holds, goes on to hold, begins to: by halving."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
