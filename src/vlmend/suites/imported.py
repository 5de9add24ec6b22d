"""Numbers that another evaluator made, read in by `vlmend utility import`; not asked by `vlmend eval`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vlmend.metrics.rates import everything
from vlmend.types import UNSCORED, Better, Decoding, Measure, Metric, Outcome, Record, Score, Statistic

JUDGE = "imported"  # whose verdicts hold the numbers, under the names they had


@dataclass(frozen=True)
class Imported:
    """`imported:TASK` and the names of its numbers: `rates` (0 or 1 per answer), `scores` (from 0 to 1 per answer),
    `numbers` (any per answer) and `totals` (one for all answers together, no mean of theirs, so without an interval);
    those named in `low` are good when low, separated by commas."""

    task: str
    rates: str = ""
    scores: str = ""
    numbers: str = ""
    totals: str = ""
    low: str = ""

    name = "imported"
    sources = ()  # what others asked is not asked again
    judges = ()
    asks: ClassVar[Mapping[str, str]] = {}
    decoding = Decoding()

    @property
    def protocol(self) -> str:
        """The task, so that runs of different tasks stand apart."""
        return self.task

    @property
    def metrics(self) -> Sequence[Measure]:
        """The numbers as they were made, all of them over all answers."""
        found: list[Measure] = []
        for name in _names(self.rates):
            found.append(Metric(name, f"{name}, as imported", everything, _Yes(name), better=self._better(name)))
        for name in _names(self.scores):
            found.append(Score(name, f"{name}, as imported", everything, _Number(name), better=self._better(name)))
        for name in _names(self.numbers):
            endless = (-math.inf, math.inf)
            found.append(
                Score(name, f"{name}, as imported", everything, _Number(name), self._better(name), endless, "points")
            )
        for name in _names(self.totals):
            found.append(
                Statistic(
                    name, f"{name} of all answers together, as imported", everything, _Number(name), _only,
                    better=self._better(name), scale=(-math.inf, math.inf), resample=False, measured_in="points",
                )
            )  # fmt: skip
        return found

    def _better(self, name: str) -> Better:
        return "low" if name in _names(self.low) else "high"

    def outcome(self, record: Record) -> Outcome:
        """right or wrong by the first rate; without one nobody can say."""
        name = next(iter(_names(self.rates)), "")
        right = _Yes(name)(record) if name else None
        if right is None:
            return UNSCORED
        return Outcome("right", "good") if right is (self._better(name) == "high") else Outcome("wrong", "bad")


plugin = Imported


@dataclass(frozen=True)
class _Number:
    """A number of the imported verdict; None where the evaluator gave this answer none."""

    name: str

    def __call__(self, record: Record) -> float | None:
        verdict = record.verdict(JUDGE)
        return verdict.scores.get(self.name) if verdict else None


@dataclass(frozen=True)
class _Yes:
    name: str

    def __call__(self, record: Record) -> bool | None:
        number = _Number(self.name)(record)
        return None if number is None else number == 1


def _only(rows: Sequence[Any]) -> float | None:
    """What every answer was given as the number of all: one value, or records of several imports were mixed."""
    return rows[0] if len(set(rows)) == 1 else None


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
