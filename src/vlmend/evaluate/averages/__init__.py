"""Averages over sets that a paper names, each of them measured by a suite of ours or by another evaluator.

An average is data: a YAML file in this folder says which sets it is of and which numbers count for them. It is never
taken over what is there: where a set is missing there is none, and the table says which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from vlmend import plain_yaml
from vlmend.config import Section, explain
from vlmend.errors import ConfigError, UnknownName, UsageError
from vlmend.metrics.rates import rate_from_json
from vlmend.store import Run

FOLDER = Path(__file__).parent


class Take(Section):
    """A number: of a suite of ours, or of a task that another evaluator measured; `out_of` is its highest value."""

    metric: str
    suite: str = ""
    task: str = ""
    out_of: float = Field(1.0, gt=0)

    def fits(self, run: Run) -> bool:
        """Whether a run measured this."""
        told = run.settings()
        if self.suite:
            return told.get("suite") == self.suite
        return told.get("suite") == "imported" and told.get("protocol") == self.task


class Average(Section):
    """Which sets, and for each what counts, the first that fits."""

    summary: str
    sets: dict[str, tuple[Take, ...]] = Field(min_length=1)


@dataclass(frozen=True)
class Part:
    """One set of one model: its number with its interval, from 0 to 1, and where it is from."""

    value: float
    low: float | None
    high: float | None
    n: int
    unscored: int
    run: str
    metric: str


@dataclass(frozen=True)
class Averaged:
    """The average of one model. `value` is None where a set is `missing`, or a number of one is."""

    model: str
    parts: Mapping[str, Part]
    missing: Sequence[str]

    @property
    def value(self) -> float | None:
        """The mean of the sets' numbers, each set counting as much as another."""
        if self.missing:
            return None
        return sum(part.value for part in self.parts.values()) / len(self.parts)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of a sum of independent numbers with intervals of their own: the squares of the distances to either end add
        up (Zou and Donner 2008). None where a number has none.
        """
        value, parts = self.value, self.parts.values()
        if value is None:
            return None
        below = [part.value - part.low for part in parts if part.low is not None]
        above = [part.high - part.value for part in parts if part.high is not None]
        if len(below) < len(parts) or len(above) < len(parts):
            return None
        return value - math.hypot(*below) / len(parts), value + math.hypot(*above) / len(parts)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "model": self.model, "value": self.value, "interval": self.interval, "missing": list(self.missing),
            "sets": {name: vars(part) for name, part in self.parts.items()},
        }  # fmt: skip


def find(name: str) -> Average:
    """The average of that name. Raises UnknownName where there is none."""
    known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    if name not in known:
        raise UnknownName("average", name, known)
    file = FOLDER / f"{name}.yaml"
    try:
        return Average.model_validate(plain_yaml.parse(file.read_text(encoding="utf-8"), str(file)))
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain(error, Average)}") from error


def average(what: Average, runs: Iterable[Run]) -> list[Averaged]:
    """The average of each model that has runs, attacks aside. Raises UsageError where two runs say the same set."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        if not run.settings().get("attack"):
            models.setdefault(str(run.settings().get("model", "")), []).append(run)
    return [_of(model, what, found) for model, found in models.items()]


def _of(model: str, what: Average, runs: Sequence[Run]) -> Averaged:
    parts: dict[str, Part] = {}
    for name, takes in what.sets.items():
        found = [(take, run) for take in takes for run in runs if take.fits(run)]
        if len(found) > 1:
            raise UsageError(
                f"{name} of {model} is in {found[0][1].folder} and in {found[1][1].folder}; which is meant?"
            )
        if found and (part := _part(*found[0])):
            parts[name] = part
    return Averaged(model, parts, [name for name in what.sets if name not in parts])


def _part(take: Take, run: Run) -> Part | None:
    """The number of a run; None where it has none of that name, or it is not known."""
    row = run.metrics()["metrics"].get(take.metric)
    if row is None:
        return None
    found = rate_from_json(row)
    if found.value is None:
        return None
    low, high = (None if end is None else end / take.out_of for end in (found.low, found.high))
    return Part(found.value / take.out_of, low, high, found.n, found.unscored, str(run.folder), take.metric)
