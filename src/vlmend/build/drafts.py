"""What a pipeline made of each start, one line each in `items.jsonl`; read in the order of the starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vlmend.build.pipeline import Draft
from vlmend.build.stage import Loss
from vlmend.errors import DataError, StoreError
from vlmend.store import Row, example_from_json, example_to_json
from vlmend.store.files import stream_rows
from vlmend.types import Example, Image, Message, Pair, digest

ITEMS = "items.jsonl"
SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Made:
    """What came of one start. `failed` is why it has to be asked again; then there is nothing else.

    `pictures` are the start's where something was lost, so that people see what about.
    """

    start: str
    drafts: tuple[Draft, ...] = ()
    losses: tuple[Loss, ...] = ()
    failed: str = ""
    pictures: tuple[Image, ...] = ()

    def to_json(self) -> Row:
        """The same as plain data."""
        drafts = [{"set": draft.set, "row": row_to_json(draft.row)} for draft in self.drafts]
        losses = [asdict(loss) for loss in self.losses]
        return {
            "start": self.start,
            "drafts": drafts,
            "lost": losses,
            **({"failed": self.failed} if self.failed else {}),
            **({"shown": example_to_json(_showing(self.pictures))["prompt"]} if self.pictures else {}),
        }

    @classmethod
    def from_json(cls, row: Row) -> Made:
        """Inverse of `to_json`."""
        drafts = tuple(Draft(each["set"], row_from_json(each["row"])) for each in row["drafts"])
        losses = tuple(Loss(**each) for each in row["lost"])
        shown: tuple[Image, ...] = ()
        if "shown" in row:
            shown = example_from_json({**example_to_json(_showing(())), "prompt": row["shown"]}).images
        return cls(row["start"], drafts, losses, row.get("failed", ""), shown)


def _showing(pictures: tuple[Image, ...]) -> Example:
    """Pictures in a form that the store has words for."""
    return Example("", (Message("user", pictures),))


def _shared(row: Example | Pair) -> dict[str, Any]:
    """What examples and pairs have in common."""
    names = {each.name for each in fields(Example)} & {each.name for each in fields(Pair)}
    return {name: getattr(row, name) for name in names}


def row_to_json(row: Example | Pair) -> Row:
    """An example or a pair as plain data; its pictures are files."""
    if isinstance(row, Example):
        return example_to_json(row)
    if row.rejected_images is not None:
        raise DataError(f"{row.id}: a pair whose sides see other pictures has no place here")
    return {**example_to_json(Example(**_shared(row))), **{side: getattr(row, side) for side in SIDES}}


def row_from_json(row: Row) -> Example | Pair:
    """Inverse of `row_to_json`."""
    example = example_from_json({name: value for name, value in row.items() if name not in SIDES})
    if "chosen" not in row:
        return example
    return Pair(**_shared(example), chosen=row["chosen"], rejected=row["rejected"])


def unsettled(row: Row) -> bool:
    """Whether a start has to be asked about again: it failed, or a judge did not say."""
    return bool(row.get("failed")) or any(loss.get("kind") == "unscored" for loss in row.get("lost", ()))


def done(out: Path) -> set[int]:
    """Of every start that need not be asked again the number that stands for its id."""
    return {number_of(row["start"]) for row in stream_rows(out / ITEMS) if not unsettled(row)}


def number_of(start: str) -> int:
    """63 bits of an id's hash: what it takes to know a hundred thousand of them again without keeping them."""
    return int(digest(start)[:16], 16) >> 1


def losses(out: Path) -> list[Row]:
    """Of every kind of loss, by stage, how often it came about and the first with why; the most frequent first."""
    found: dict[tuple[str, str], Row] = {}
    for each in made(out):
        failed = [("failed", "start", each.failed)] if each.failed else []
        for kind, stage, why in (*failed, *((loss.kind, loss.stage, loss.why) for loss in each.losses)):
            row = found.setdefault(
                (kind, stage), {"kind": kind, "stage": stage, "count": 0, "of": each.start, "why": why}
            )
            row["count"] += 1
    return sorted(found.values(), key=lambda row: -row["count"])


def made(out: Path) -> Iterator[Made]:
    """What came of every start, one by one, in the order in which they were first asked.

    What was asked again stands where it was asked first. Raises StoreError for a line that is no such row.
    """
    path = out / ITEMS
    again: dict[str, Row] = {}
    for row in stream_rows(path):
        if row.get("start") in again or unsettled(row):
            again[row.get("start", "")] = row
    seen: set[str] = set()
    for number, row in enumerate(stream_rows(path), start=1):
        name = row.get("start", "")
        if name in seen:
            continue
        if name in again:
            seen.add(name)
            row = again[name]
        try:
            yield Made.from_json(row)
        except (KeyError, TypeError, ValueError, StoreError) as error:
            raise StoreError(f"{path} is damaged in line {number}: {error}") from error
