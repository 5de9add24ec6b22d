"""Holdout: what another source has to forget, taken as something no model was trained on, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from vlmend.data.dataset import read
from vlmend.errors import DataError
from vlmend.registry import Spec, sources
from vlmend.types import Example, Role

SUBSET = "holdout"


@dataclass(frozen=True)
class Holdout:
    """`holdout:SPEC` gives the examples of the role forget as the subset `holdout`, ids beginning with `holdout/`.

    Membership in training is told by comparing them with what was trained on. That they were not is for whoever names
    them to know.
    """

    spec: str

    takes_spec: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sources.find(Spec.parse(self.spec).name)  # a wrong name is told before anything is read

    def __iter__(self) -> Iterator[Example]:
        """In the order of the source."""
        kept = [example for example in read(self.spec) if example.role is Role.FORGET]
        if not kept:
            raise DataError(f"holdout:{self.spec} has no examples: it takes those of the role forget")
        for example in kept:
            yield replace(example, id=f"{SUBSET}/{example.id}", subset=SUBSET)


plugin = Holdout
