"""Crossed: pictures and questions of another source exchanged in pairs, to tell which of the two a model reacts to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from vlmend.data.dataset import read
from vlmend.errors import DataError
from vlmend.registry import Spec, sources
from vlmend.types import Example, Expected, Image, Message, Part, digest

CELLS = ("both", "question", "picture", "neither")


@dataclass(frozen=True)
class Crossed:
    """`crossed:SPEC` pairs each example to refuse with one to answer and gives four examples of a pair.

    subset   pictures of    question of
    both     to refuse      to refuse
    question to answer      to refuse
    picture  to refuse      to answer
    neither  to answer      to answer

    Partners have as many pictures as one another and are of different clusters; each example has at most one, and who
    has none is left out. A pair is a cluster, and `meta["pair"]` names it. What is right in the mixed cells is not
    known: `expected` is "refuse" wherever anything comes from the example to refuse, and only refusals are to be
    counted.
    """

    spec: str

    takes_spec: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sources.find(Spec.parse(self.spec).name)  # a wrong name is told before anything is read

    def __iter__(self) -> Iterator[Example]:
        """Pair by pair, in an order drawn from the ids."""
        found = False
        for unsafe, safe in pairs(read(self.spec)):
            found = True
            yield from _cells(unsafe, safe)
        if not found:
            raise DataError(
                f"crossed:{self.spec} has no pairs: it takes examples to refuse and others to answer, of different"
                " clusters, with as many pictures"
            )


def pairs(examples: Sequence[Example]) -> Iterator[tuple[Example, Example]]:
    """Partners of different clusters with as many pictures, drawn by id."""
    drawn = sorted((e for e in examples if e.images), key=lambda e: digest("crossed", e.id))
    waiting = [e for e in drawn if e.expected is Expected.ANSWER]
    for unsafe in (e for e in drawn if e.expected is not Expected.ANSWER):
        at = next((i for i, safe in enumerate(waiting) if _fit(unsafe, safe)), None)
        if at is not None:
            yield unsafe, waiting.pop(at)


def _fit(unsafe: Example, safe: Example) -> bool:
    same = bool(unsafe.cluster) and unsafe.cluster == safe.cluster
    return not same and len(unsafe.images) == len(safe.images)


def _cells(unsafe: Example, safe: Example) -> Iterator[Example]:
    pair = f"{unsafe.id} x {safe.id}"
    for cell, pictures, asked in zip(CELLS, (unsafe, safe, unsafe, safe), (unsafe, unsafe, safe, safe), strict=True):
        yield replace(
            asked,
            id=f"{pair}/{cell}",
            prompt=_showing(asked.prompt, pictures.images),
            answers=(),
            expected=Expected.ANSWER if cell == "neither" else Expected.REFUSE,
            subset=cell,
            cluster=pair,
            meta={**asked.meta, "pair": pair},
        )


def _showing(prompt: Sequence[Message], pictures: Sequence[Image]) -> tuple[Message, ...]:
    left = iter(pictures)

    def part(p: Part) -> Part:
        return next(left) if isinstance(p, Image) else p

    return tuple(replace(m, parts=tuple(map(part, m.parts))) for m in prompt)


plugin = Crossed
