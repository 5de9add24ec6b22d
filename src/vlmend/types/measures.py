"""What is counted: measures of records, and the rates and means they give, each with its doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vlmend.types.answers import Record
from vlmend.types.examples import Example


@dataclass(frozen=True)
class Rate:
    """k of n, its 95 % interval, and how many of the population could not be scored (not part of n).

    `clusters` says how many independent clusters the n fall into, where the interval takes that into account; 0 where
    all n are independent and the interval is plain Wilson. `marked` says what is wrong with a judge that it was read
    from, and is empty where nothing is known to be.
    """

    k: int
    n: int
    unscored: int
    low: float | None
    high: float | None
    clusters: int = 0
    marked: str = ""

    @property
    def value(self) -> float | None:
        """k / n, or None when nothing was scored."""
        return self.k / self.n if self.n else None

    @property
    def worst(self) -> float | None:
        """The rate if every unscored record counted toward k."""
        total = self.n + self.unscored
        return (self.k + self.unscored) / total if total else None

    @property
    def best(self) -> float | None:
        """The rate if no unscored record counted toward k."""
        total = self.n + self.unscored
        return self.k / total if total else None


@dataclass(frozen=True)
class Mean:
    """A number that is no proportion, with its 95 % bootstrap interval: a mean score, or a statistic of n records.

    `scale` is the smallest and the largest value there can be, in `measured_in` where it is no share; unscored records
    are not part of n. `worst` and `best` put them at the top and at the bottom of it, as for a Rate; only where the
    number is a mean (`additive`) can one know what they would have made of it, and only on a scale with an end.
    `clusters` is the number of units that were resampled. `marked` is as for a Rate.
    """

    value: float | None
    n: int
    unscored: int
    low: float | None
    high: float | None
    clusters: int = 0
    scale: tuple[float, float] = (0.0, 1.0)
    additive: bool = True
    measured_in: str = ""
    marked: str = ""

    @property
    def worst(self) -> float | None:
        """The mean if every unscored record had the largest value."""
        return self._with(self.scale[1])

    @property
    def best(self) -> float | None:
        """The mean if every unscored record had the smallest value."""
        return self._with(self.scale[0])

    def _with(self, edge: float) -> float | None:
        if not self.unscored:
            return self.value
        total = self.n + self.unscored
        if not math.isfinite(edge):
            return None
        return ((self.value or 0.0) * self.n + edge * self.unscored) / total if self.additive else None


Measured = Rate | Mean

Better = Literal["low", "high"] | float | None
"""Which way a number is good: down, up, toward a value inside its range, or (None) neither, where it only describes."""


Tone = Literal["good", "bad", "neutral"]


@dataclass(frozen=True)
class Outcome:
    """What became of one request, in a word of its suite, and whether that is good, bad, or neither."""

    name: str
    tone: Tone = "neutral"


UNSCORED = Outcome("unscored")
"""Nobody can say what became of it."""


@dataclass(frozen=True)
class Stakes:
    """Which of a suite's numbers a mirage card is about, by name.

    `danger` is what must not happen; `over_refusal` is the same reaction to what is harmless, empty where nothing is to
    be answered. Of a rate whose high values are good the contrary counts. `ability` is what is left of it, high values
    good, first the one that is about the requests to answer. `parts` and `over_parts` are further rates of the two that
    must be low as well, beside those that are named after them. `instead` are rates of what keeps a model from
    danger and is not what is wanted, each with what is to be said of a model that lives by it.
    """

    danger: str = "asr"
    over_refusal: str = "over_refusal"
    ability: tuple[str, ...] = ("accuracy", "utility")
    parts: tuple[str, ...] = ()
    over_parts: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Metric:
    """A named yes/no question about the records it applies to.

    `outcome` gives None for a record that could not be scored. `better` says which direction is good (see `Better`),
    so that tables, worst cases and comparisons need not guess. With a `unit`, the records of one unit count once, as
    the shots of one question do: `combine` says whether any of them or all of them must have the outcome.
    """

    name: str
    summary: str
    applies: Callable[[Example], bool]
    outcome: Callable[[Record], bool | None]
    better: Better = "low"
    unit: Callable[[Record], str] | None = None
    combine: Literal["any", "all"] = "any"


@dataclass(frozen=True)
class Score:
    """A named number per record, such as ROUGE-L, whose mean is reported. `outcome` gives None where it has none.

    `measured_in` is the unit of a number that is no share, such as words.
    """

    name: str
    summary: str
    applies: Callable[[Example], bool]
    outcome: Callable[[Record], float | None]
    better: Better = "high"
    scale: tuple[float, float] = (0.0, 1.0)
    measured_in: str = ""


@dataclass(frozen=True)
class Statistic:
    """A named number of all records together that is no mean over them, such as a gap between two kinds of records.

    `outcome` is what `compute` needs of a record, None for one that could not be scored; `compute` gives None where
    that does not suffice. The interval resamples whole units, `unit`, or clusters where it is None; within each
    `stratum`, where all strata have to be there, as the categories whose scores are summed. There is no
    interval where `resample` is false, as where a record drawn twice would be compared with itself.

    `contrary` gives the outcome as it would have been had the model answered the other way: with it, the interval has
    the right width also where all answers agree (see `metrics.intervals.bootstrap`). `measured_in` is the unit of what
    is no share.
    """

    name: str
    summary: str
    applies: Callable[[Example], bool]
    outcome: Callable[[Record], Any]
    compute: Callable[[Sequence[Any]], float | None]
    better: Better = "high"
    scale: tuple[float, float] = (0.0, 1.0)
    unit: Callable[[Record], str] | None = None
    stratum: Callable[[Record], str] | None = None
    resample: bool = True
    measured_in: str = ""
    contrary: Callable[[Any], Any] | None = None


Measure = Metric | Score | Statistic
