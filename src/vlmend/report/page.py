"""A page is a title and sections. This is all that `vlmend report` and `vlmend demo` know about how pages look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vlmend.report.curves import Steps
from vlmend.report.gallery import Item
from vlmend.report.tables import RateTable
from vlmend.report.wordmap import Point
from vlmend.types import Better, Measured


@dataclass(frozen=True)
class Banner:
    """Something that must not be overlooked, such as placeholder pictures."""

    text: str
    kind: ClassVar[str] = "banner"


@dataclass(frozen=True)
class Prose:
    """A heading with paragraphs of plain text."""

    title: str
    paragraphs: tuple[str, ...]
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Finding:
    """One thing measured, as one number or a change: `steps` are named rates in reading order."""

    title: str
    steps: tuple[tuple[str, Measured], ...]
    text: str = ""
    better: Better = "low"


@dataclass(frozen=True)
class Findings:
    """The few numbers a reader should take away, large."""

    items: tuple[Finding, ...]
    title: str = ""
    kind: ClassVar[str] = "findings"


@dataclass(frozen=True)
class Rates:
    """A table of rates; a folded one shows its title until it is opened."""

    table: RateTable
    folded: bool = False
    kind: ClassVar[str] = "rates"


@dataclass(frozen=True)
class Bars:
    """The same rates as bars with their intervals."""

    table: RateTable
    kind: ClassVar[str] = "bars"


@dataclass(frozen=True)
class Curves:
    """Rates along a scale, each series a line with the intervals of its points."""

    title: str
    note: str
    series: Mapping[str, Steps]
    kind: ClassVar[str] = "curves"


@dataclass(frozen=True)
class Gallery:
    """Examples with the answers of several models."""

    title: str
    items: tuple[Item, ...]
    note: str = ""
    kind: ClassVar[str] = "gallery"

    @property
    def marks(self) -> tuple[str, ...]:
        """What became of the requests shown, each once: the page shows those of one mark alone where asked to."""
        return tuple(dict.fromkeys(answer.mark for item in self.items for answer in item.answers))


@dataclass(frozen=True)
class Grid:
    """A plain table of texts, such as a transition matrix."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Words:
    """Words by log-odds (left: answer, right: refusal) and count; the most telling first."""

    title: str
    points: tuple[Point, ...]
    note: str = ""
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Provenance:
    """What made the numbers: named groups of settings, nested as they are."""

    groups: Mapping[str, Mapping[str, Any]]
    title: str = "Provenance"
    kind: ClassVar[str] = "provenance"


Section = Banner | Prose | Findings | Rates | Bars | Curves | Gallery | Grid | Words | Provenance


def build(title: str, sections: Sequence[Section], out: Path, *, lead: str = "") -> Path:
    """Write the page: one file that needs nothing else, no network and no script."""
    from vlmend.report.html import render
    from vlmend.store import write_atomic

    write_atomic(out, render(title, sections, lead=lead).encode("utf-8", "replace"))
    return out
