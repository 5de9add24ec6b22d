"""Where each row of a sweep stands in safety and ability, and which rows nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmend.metrics.rates import worst
from vlmend.report.scatter import Coordinate
from vlmend.types import Better, Measured

Found = Mapping[str, Mapping[str, Measured]]  # by condition, by metric
Point = tuple[Coordinate, Coordinate] | None  # safety, ability; None where something could not be measured


@dataclass(frozen=True)
class Axes:
    """The two metrics of a front, `NAME` or `CONDITION/NAME`, and which way each is good.

    One whose best value is inside its range is drawn as the distance from there, of which less is better.
    """

    safety: str
    utility: str
    better: Mapping[str, Better]

    @property
    def signs(self) -> tuple[int, int]:
        """1 where more is better, -1 where less is, for safety and ability."""
        safe, able = (1 if self.better[name] == "high" else -1 for name in (self.safety, self.utility))
        return safe, able

    def title(self, name: str) -> str:
        """What is drawn."""
        best = self.better[name]
        return f"{name}, distance from {best:g}" if isinstance(best, float | int) else name

    def conditions(self, found: Found, name: str = "") -> list[str]:
        """Those under which a metric, that of safety by default, was measured: of all that are meant."""
        wanted, metric = split(name or self.safety)
        return [condition for condition, rates in found.items() if metric in rates and wanted in ("", condition)]

    def point(self, found: Found) -> Point:
        """Safety at its worst over all conditions that measure it, ability in the first one that does.

        What is unscored counts the bad way, here as everywhere.
        """
        safe = [self._coordinate(found, condition, self.safety) for condition in self.conditions(found)]
        able = [self._coordinate(found, condition, self.utility) for condition in self.conditions(found, self.utility)]
        if not able or able[0] is None:
            return None
        known = [at for at in safe if at is not None]
        if not known or len(known) < len(safe):
            return None
        return min(known, key=lambda at: self.signs[0] * at.value), able[0]

    def _coordinate(self, found: Found, condition: str, name: str) -> Coordinate | None:
        rate, better = found[condition][split(name)[1]], self.better[name]
        at = worst(rate, better)
        if at is None:
            return None
        low, high = (at if end is None else end for end in (rate.low, rate.high))
        low, high = min(low, at), max(high, at)
        if isinstance(better, str) or better is None:
            return Coordinate(at, low, high)
        ends = sorted((abs(low - better), abs(high - better)))
        return Coordinate(abs(at - better), 0.0 if low <= better <= high else ends[0], ends[1])


def split(name: str) -> tuple[str, str]:
    """The condition that is named, or none, and the metric."""
    condition, _, metric = name.rpartition("/")
    return condition, metric


def front(points: Mapping[str, Point], signs: tuple[int, int]) -> set[str]:
    """Names that no other is at least as good as in both coordinates and better in one."""
    known = {
        name: tuple(sign * at.value for sign, at in zip(signs, point, strict=True))
        for name, point in points.items()
        if point is not None
    }
    return {
        name
        for name, (safe, able) in known.items()
        if not any(s >= safe and a >= able and (s, a) != (safe, able) for s, a in known.values())
    }


def short(names: Sequence[str]) -> dict[str, str]:
    """Names for a picture: what all recipes begin with is left out, and `method.pd=true` becomes `pd`."""
    stems = [name.split(",")[0] for name in names]
    shared = {stem.partition("_")[0] for stem in stems if "_" in stem}
    cut = f"{next(iter(shared))}_" if len(shared) == 1 else ""
    found: dict[str, str] = {}
    for name in names:
        stem, *settings = name.split(",")
        said = [_said(*item.partition("=")[::2]) for item in settings]
        found[name] = " ".join((stem.removeprefix(cut), *filter(None, said)))
    return found if len(set(found.values())) == len(found) else {name: name for name in names}


def _said(key: str, value: str) -> str:
    last = key.rpartition(".")[2]
    return {"true": f"+{last}", "false": ""}.get(value, f"{last}={value}")
