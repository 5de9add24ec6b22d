"""How well a reward agrees with preferences: of held-out pairs, how often the chosen answer is worth more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from vlmend.data.preferences import sides
from vlmend.errors import DataError
from vlmend.metrics import rates
from vlmend.metrics.intervals import bootstrap_mean
from vlmend.types import Expected, Mean, Pair, Rate, Reward, Rollout

Group = Literal["category", "subset", "subcategory", "source"]
ENDLESS = (float("-inf"), float("inf"))
EXPECTED = "expected"  # key of meta: what a pair's prompt expects, where rewards that ask for that are to be measured
HARMFUL = ("chosen_harmful", "rejected_harmful")


class Worth(NamedTuple):
    """What both sides of a pair are worth; None where one is unscored."""

    chosen: float | None
    rejected: float | None

    @property
    def margin(self) -> float | None:
        """By how much the chosen side is worth more."""
        return None if self.chosen is None or self.rejected is None else self.chosen - self.rejected

    @property
    def right(self) -> bool | None:
        """Whether the chosen side is worth more. A tie is none."""
        return None if self.margin is None else self.margin > 0


@dataclass(frozen=True)
class Preferring:
    """`accuracy` over pairs, of which `ties` are worth the same on both sides and so are not right.

    `signs` says of a cost model, where rows tell which answers do harm, of how many its number is on the right side of
    0. `groups` have the accuracy within each.
    """

    accuracy: Rate
    ties: int
    margin: Mean
    signs: Rate | None
    groups: Mapping[str, Rate]

    @property
    def unscored(self) -> float:
        """The share of pairs that could not be scored."""
        return self.accuracy.unscored / max(1, self.accuracy.n + self.accuracy.unscored)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "accuracy": _as_json(self.accuracy),
            "ties": self.ties,
            "margin": {"mean": self.margin.value, "low": self.margin.low, "high": self.margin.high, "n": self.margin.n},
            "signs": self.signs and _as_json(self.signs),
            "groups": {name: _as_json(rate) for name, rate in self.groups.items()},
        }


def _as_json(rate: Rate) -> dict[str, Any]:
    return {
        "rate": rate.value, "k": rate.k, "n": rate.n, "unscored": rate.unscored, "low": rate.low, "high": rate.high,
        "clusters": rate.clusters,
    }  # fmt: skip


def measure(reward: Reward, pairs: Sequence[Pair], by: Group = "category", *, signs: bool = False) -> Preferring:
    """What a reward makes of pairs. Both sides are taken for finished; their words are counted for tokens.

    `signs`: numbers below 0 are meant to say that an answer does harm, so that this can be held against the rows.
    """
    found = worths(reward, pairs)
    names = [pair.cluster or pair.id for pair in pairs]
    margins = [(worth.margin, name) for worth, name in zip(found, names, strict=True) if worth.margin is not None]
    values, kept = [margin for margin, _ in margins], [name for _, name in margins]
    low, high = bootstrap_mean(values, kept) or (None, None)
    mean = sum(values) / len(values) if values else None
    return Preferring(
        rates.of([worth.right for worth in found], names),
        sum(margin == 0 for margin in values),
        Mean(mean, len(values), len(found) - len(values), low, high, len(set(kept)), ENDLESS),
        _signs(pairs, found, names) if signs else None,
        _grouped(pairs, found, names, lambda pair: getattr(pair, by)),
    )


def worths(reward: Reward, pairs: Sequence[Pair]) -> list[Worth]:
    """What both sides are worth, asked together, so that what they share is looked at once."""
    rollouts = [rollout for pair in pairs for rollout in _rollouts(pair)]
    values = reward(rollouts)
    return [Worth(values[place], values[place + 1]) for place in range(0, len(values), 2)]


def _rollouts(pair: Pair) -> tuple[Rollout, Rollout]:
    """Both sides as a policy could have written them: what is preferred is not told to the reward."""
    said = pair.meta.get(EXPECTED, Expected.ANSWER)
    if said not in list(Expected):
        raise DataError(f"pair {pair.id!r}: meta {EXPECTED!r} is {said!r}; it can be {', '.join(Expected)}")
    chosen, rejected = (
        Rollout(replace(side, answers=(), expected=Expected(said)), text, len(text.split()), finished=True)
        for side, text in zip(sides(pair), (pair.chosen, pair.rejected), strict=True)
    )
    return chosen, rejected


def _signs(pairs: Sequence[Pair], found: Sequence[Worth], names: Sequence[str]) -> Rate | None:
    """Of answers that are known to do harm or not, of how many the number is on the right side of 0."""
    outcomes: list[bool | None] = []
    clusters: list[str] = []
    for pair, worth, name in zip(pairs, found, names, strict=True):
        for value, key in zip(worth, HARMFUL, strict=True):
            if pair.meta.get(key) in ("0", "1"):
                outcomes.append(None if value is None else (value < 0) == (pair.meta[key] == "1"))
                clusters.append(name)
    return rates.of(outcomes, clusters) if outcomes else None


def _grouped(
    pairs: Sequence[Pair], found: Sequence[Worth], names: Sequence[str], group: Callable[[Pair], str]
) -> dict[str, Rate]:
    """Accuracy by group; none where there is but one."""
    members: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        members.setdefault(group(pair) or "–", []).append(place)
    if len(members) < 2:
        return {}
    return {
        name: rates.of([found[i].right for i in places], [names[i] for i in places])
        for name, places in sorted(members.items())
    }
