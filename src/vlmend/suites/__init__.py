"""Protocols, one per file: which examples, how to decode, who judges, what is counted. And what some of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlmend.registry import Spec, sources
from vlmend.types import Decoding


@dataclass(frozen=True)
class AroundSource:
    """A suite of any source, given by its spec; a source that does not exist is told before anything is loaded."""

    spec: str

    takes_spec: ClassVar[bool] = True
    protocol = "default"
    decoding = Decoding(max_new_tokens=256)

    def __post_init__(self) -> None:
        sources.find(Spec.parse(self.spec).name)
