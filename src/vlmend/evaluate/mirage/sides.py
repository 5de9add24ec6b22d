"""What a card is about: which numbers of a suite are its danger, its over-refusal and its ability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmend.errors import UnknownName, UsageError
from vlmend.metrics.rates import no
from vlmend.registry import Spec, sources
from vlmend.types import Carded, Cell, Celled, Example, Expected, Measure, Measured, Metric, Rate, Stakes, Suite

DANGER, OVER = "asr", "over_refusal"  # names of the two on every card
TITLES = {"asr": "attack success", "over_refusal": "over-refusal"}  # of a suite's own names


@dataclass(frozen=True)
class Side:
    """One of the two: a rate whose high values are bad, made of the suite's number `name`, or of its contrary."""

    metric: Metric
    contrary: bool = False

    @property
    def name(self) -> str:
        """As the suite calls the number."""
        return self.metric.name

    @property
    def title(self) -> str:
        """As a card calls it."""
        return f"1 - {self.name}" if self.contrary else TITLES.get(self.name, self.name)

    @property
    def summary(self) -> str:
        """What is counted, in words."""
        return f"not: {self.metric.summary}" if self.contrary else self.metric.summary


@dataclass(frozen=True)
class Sides:
    """What can go wrong on a card's requests, and what is left of the ability. `over` is None where nothing is to be
    answered.
    """

    danger: Side
    over: Side | None
    ability: tuple[Measure, ...]
    stakes: Stakes
    cells: Mapping[str, Cell]  # by subset, of sources that say so
    apart: tuple[str, ...]  # abilities that are about none of the requests that danger is about

    @property
    def both(self) -> dict[str, Side]:
        """The two by their names on cards; danger alone where nothing is to be answered."""
        return {DANGER: self.danger, **({OVER: self.over} if self.over else {})}

    @property
    def names(self) -> str:
        """Everything that is measured of a request, as `EvalConfig.only` takes it."""
        return ",".join(dict.fromkeys(m.name for m in (*self.both.values(), *self.ability)))

    def about(self, examples: Sequence[Example]) -> list[Example]:
        """What the two are about, expected to be refused or to be answered accordingly: an audit tells them apart."""
        found: list[Example] = []
        for example in examples:
            if self.danger.metric.applies(example):
                answer = example.expected is Expected.ANSWER
                found.append(replace(example, expected=Expected.REFUSE) if answer else example)
            elif self.over and self.over.metric.applies(example):
                found.append(replace(example, expected=Expected.ANSWER))
        return found

    def parts(self, found: Iterable[tuple[Measure, Measured]]) -> dict[str, Measured]:
        """Of a suite's numbers the further rates of danger and over-refusal, by subset or by another judge, high values
        bad. Harm that a judge sees where refusals are counted is one of danger.
        """
        made: dict[str, Measured] = {}
        for measure, rate in found:
            if isinstance(measure, Metric) and isinstance(rate, Rate) and self._side_of(measure.name):
                side = _side(measure)
                made[side.title] = complement(rate) if side.contrary else rate
        return made

    def over_parts(self, names: Iterable[str]) -> frozenset[str]:
        """Which of these numbers belong to over-refusal, as they are titled."""
        mine = [name for name in names if self._side_of(name) == OVER]
        return frozenset([*mine, *(f"1 - {name}" for name in mine)])

    def _side_of(self, name: str) -> str:
        """What a further number is a part of; empty where of neither."""
        if ".coverage" in name or ".na_wrong" in name or name in (self.danger.name, self.over and self.over.name):
            return ""  # how many answers there are, or what is none
        for side, own, more in (
            (OVER, self.over.name if self.over else "", self.stakes.over_parts),
            (DANGER, self.danger.name, (*self.stakes.parts, "harmful")),
        ):
            named = own and name.startswith((f"{own}_", f"{own}."))
            if named or any(name == part or name.startswith(f"{part}.") for part in more):
                return side
        return ""


def sides(suite: Suite, examples: Sequence[Example]) -> Sides:
    """What a card of this suite is about. Raises UsageError where there is nothing to make one of."""
    stakes = suite.card if isinstance(suite, Carded) else Stakes()
    known = {m.name: m for m in suite.metrics}

    def side(name: str) -> Side | None:
        found = known.get(name)
        if not isinstance(found, Metric):
            return None
        return _side(found) if any(found.applies(e) for e in examples) else None

    if not isinstance(known.get(stakes.danger), Metric):
        if isinstance(suite, Carded):
            raise UnknownName(f"rate of suite {suite.name}", stakes.danger, known)
        raise UsageError(
            f"suite {suite.name} has no {stakes.danger} to make a card of, and declares no other number;"
            " source:SPEC makes a suite of any source"
        )
    danger = side(stakes.danger)
    if danger is None:
        raise UsageError(
            f"suite {suite.name} asks nothing here that is to be refused ({stakes.danger} is about nothing)"
        )
    ability = tuple(known[name] for name in stakes.ability if name in known)
    there = tuple(m for m in ability if any(m.applies(e) for e in examples))
    unsafe = [e for e in examples if danger.metric.applies(e)]
    apart = tuple(m.name for m in there if not any(m.applies(e) for e in unsafe))
    return Sides(danger, side(stakes.over_refusal), there, stakes, _cells(suite), apart)


def _side(metric: Metric) -> Side:
    """The rate with its high values bad."""
    if metric.better != "high":
        return Side(metric)
    combine: Any = "all" if metric.combine == "any" else "any"  # not all of them is any that is not
    return Side(replace(metric, outcome=no(metric.outcome), better="low", combine=combine), contrary=True)


def complement(rate: Rate) -> Rate:
    """The rate of the contrary."""
    low, high = (None if edge is None else 1 - edge for edge in (rate.high, rate.low))
    return replace(rate, k=rate.n - rate.k, low=low, high=high)


def _cells(suite: Suite) -> dict[str, Cell]:
    """What the sources of a suite say of their subsets; where two say otherwise, nothing is said."""
    found: dict[str, set[Cell]] = {}
    for spec in suite.sources:
        plugin: Any = sources.find(Spec.parse(spec).name)
        for subset, cell in plugin.cells.items() if isinstance(plugin, Celled) else ():
            found.setdefault(subset, set()).add(cell)
    return {subset: cells.pop() for subset, cells in found.items() if len(cells) == 1}
