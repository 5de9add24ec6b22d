"""What is wrong with a data set, before anything is trained on it: the object behind `vlmend data check`.

Every check runs, whatever the others find: that all pictures are missing hides nothing that the texts give away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vlmend.data.checks.finding import KINDS, Finding, Item, Severity
from vlmend.data.checks.pictures import check_pictures
from vlmend.data.checks.records import check_records
from vlmend.data.checks.sights import Sights, Tell, look, silent
from vlmend.data.checks.texts import Declines, check_texts
from vlmend.data.dataset import read_raw
from vlmend.data.leak import leaks
from vlmend.data.rows import tolerant
from vlmend.errors import DataError, UnknownName

GRAVEST_FIRST: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Checked:
    """A data set that was looked through, and what was found. `against` names the set it was compared with."""

    spec: str
    items: tuple[Item, ...]
    sights: Sights
    findings: tuple[Finding, ...]
    against: str = ""

    def count(self, severity: Severity) -> int:
        """How many kinds of defect of this severity were found."""
        return sum(finding.severity == severity for finding in self.findings)

    def without(self, kinds: Iterable[str]) -> Checked:
        """The same without findings of some kinds. Raises UnknownName for a kind that does not exist."""
        ignored = known_kinds(kinds)
        kept = tuple(finding for finding in self.findings if finding.kind not in ignored)
        return Checked(self.spec, self.items, self.sights, kept, self.against)

    def to_json(self) -> dict[str, Any]:
        """Everything found as plain data."""
        counts = {f"{severity}s": self.count(severity) for severity in GRAVEST_FIRST}
        read = {"source": self.spec, "against": self.against, "examples": len(self.items)}
        return {**read, **counts, "problems": [finding.to_json() for finding in self.findings]}


def check(spec: str, declines: Declines, *, against: str = "", tell: Tell = silent) -> Checked:
    """Look through a source, and for leaks from another one. `declines` says of a text whether it refuses.

    Raises DataError when a source cannot be read; text that is no UTF-8 is a finding, though nothing else is then.
    """
    try:
        items = _read(spec)
    except DataError as error:
        if not any(isinstance(cause, UnicodeDecodeError) for cause in _causes(error)):
            raise
        unread = Finding("non_utf8", 1, (), f"{error}; nothing else could be checked")
        return Checked(spec, (), {}, (unread,), against)
    others = _read(against) if against else ()
    sights = look([*items, *others], tell)
    found = [*examine(items, sights, declines), *(leaks(items, others, sights) if others else ())]
    found.sort(key=lambda finding: GRAVEST_FIRST.index(finding.severity))
    return Checked(spec, items, sights, tuple(found), against)


def examine(items: Sequence[Item], sights: Sights, declines: Declines) -> Iterator[Finding]:
    """Everything that is wrong with the examples or pairs of one source."""
    shown = {image: sights[image] for item in items for image in item.images}
    yield from check_pictures(items, shown)
    yield from check_records(items, shown)
    yield from check_texts(items, declines)


def known_kinds(kinds: Iterable[str]) -> set[str]:
    """The kinds as a set. Raises UnknownName for one that does not exist."""
    named = set(kinds)
    for kind in sorted(named - KINDS.keys()):
        raise UnknownName("kind of finding", kind, KINDS)
    return named


def _read(spec: str) -> tuple[Item, ...]:
    with tolerant():
        items = tuple(read_raw(spec))
    if not items:
        raise DataError(f"{spec} has no examples")
    return items


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
