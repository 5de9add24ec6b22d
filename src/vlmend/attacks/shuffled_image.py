"""Show the pictures of another example: what is still refused is not refused for what the picture shows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmend.attacks import PICTURES, repictured
from vlmend.errors import DataError
from vlmend.types import Example, Image


@dataclass(frozen=True)
class ShuffledImage:
    """Each example gets the pictures of one of another cluster with as many pictures, by a draw from `seed`.

    Words stay. Raises DataError for an example to which no other one can lend its pictures.
    """

    seed: int = 0

    changes = PICTURES

    def among(self, examples: Sequence[Example]) -> Lent:
        """The attack that knows whose pictures there are."""
        groups: dict[int, list[Example]] = {}
        for example in sorted(examples, key=lambda e: e.id):
            groups.setdefault(len(example.images), []).append(example)
        return Lent({taker: images for group in groups.values() for taker, images in self._lend(group)})

    def _lend(self, group: list[Example]) -> list[tuple[str, tuple[Image, ...]]]:
        order = random.Random(self.seed).sample(range(len(group)), len(group))
        place = {member: at for at, member in enumerate(order)}
        found: list[tuple[str, tuple[Image, ...]]] = []
        for number, taker in enumerate(group):
            later = (group[order[(place[number] + step) % len(order)]] for step in range(1, len(order)))
            giver = next((e for e in later if _others(taker, e)), None)
            if giver is not None or not taker.images:
                found.append((taker.id, giver.images if giver else ()))
        return found

    def __call__(self, example: Example) -> Example:
        """Always a DataError: alone, an example has nobody's pictures to take."""
        return self.among([example])(example)


@dataclass(frozen=True)
class Lent:
    """The attack once it knows which pictures each example gets, by its id."""

    pictures: Mapping[str, tuple[Image, ...]]

    changes = PICTURES

    def __call__(self, example: Example) -> Example:
        """The example about somebody else's pictures."""
        if example.id not in self.pictures:
            raise DataError(
                f"attack shuffled_image: no other example can lend {example.id!r} its pictures:"
                f" none of another cluster has {len(example.images)}"
            )
        return repictured(example, lambda number, _: self.pictures[example.id][number])


def _others(taker: Example, giver: Example) -> bool:
    """Whether the giver's pictures are not the taker's own."""
    same = taker.cluster == giver.cluster if taker.cluster or giver.cluster else taker.id == giver.id
    return not same and taker.images != giver.images


plugin = ShuffledImage
