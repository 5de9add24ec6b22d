"""What a pipeline is: what it begins with, whom it asks, and the rows it proposes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

from vlmend.build.stage import Loss, Making, Stage
from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Pair

Begins = Literal["pictures", "rows"]


@dataclass(frozen=True)
class Start:
    """What one course of a pipeline begins with: pictures, or a row of a data set."""

    id: str
    pictures: tuple[Image, ...] = ()
    row: Example | None = None
    meta: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def shown(self) -> tuple[Image, ...]:
        """All pictures that somebody may be shown: its own and the row's."""
        return (*self.pictures, *(self.row.images if self.row else ()))

    @property
    def example(self) -> Example:
        """The row. Raises DataError where it begins with pictures."""
        if self.row is None:
            raise DataError(f"{self.id} is no row of a data set")
        return self.row


class Draft(NamedTuple):
    """A row that is proposed for one of the pipeline's sets."""

    set: str
    row: Example | Pair


class Part(NamedTuple):
    """Someone who is asked: what for, and whether several models may have the part.

    Where nobody else is named for a part that may be `doubled`, the generator has it, too.
    """

    what: str
    several: bool = False
    doubled: bool = False


Cast = Mapping[str, Sequence[str]]
"""By part, the models that have it, by name."""


class Pipeline(Protocol):
    """`begins` says what it is given, `parts` whom it asks; `made_of` changes with its prompts and its taxonomy.

    `starts` takes what is given one by one, and must not hold on to it; `build` asks about one start: asked again, it
    must ask the same. `version` is what a row's provenance says, `words` a stage's prompt as far as it is known before
    anything is said; empty where a row is asked as it stands.
    """

    @property
    def begins(self) -> Begins: ...
    @property
    def parts(self) -> Mapping[str, Part]: ...
    @property
    def stages(self) -> Sequence[Stage[Any]]: ...
    @property
    def version(self) -> str: ...
    @property
    def made_of(self) -> str: ...

    def words(self, stage: str) -> str: ...
    def starts(self, given: Iterable[Start]) -> Iterator[Start]: ...
    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]: ...


def asking(text: str, *pictures: Image) -> tuple[Message, ...]:
    """A conversation that shows pictures and asks."""
    return (Message("user", (*pictures, text)),)


def tracing(draft: Draft, provenance: Mapping[str, str]) -> Draft:
    """The draft whose row says where it comes from, in its `meta`."""
    return draft._replace(row=replace(draft.row, meta={**draft.row.meta, **provenance}))
