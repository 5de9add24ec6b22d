"""What people decided about a run's drafts: kept in its folder, and honored whenever its sets are written."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmend.build.drafts import made
from vlmend.errors import StoreError, UnknownName, nearest
from vlmend.report.review import KEPT, Decision, ReviewItem, decided, latest, read_decisions, write_decisions
from vlmend.store import read_json
from vlmend.types import digest

if TYPE_CHECKING:
    from vlmend.build.sift import Sifted

FILE, ABOUT = "decisions.json", "build.json"
LOST = {
    "refused": "refused by the generator",
    "blocked": "blocked by the provider",
    "unfit": "unfit answer",
    "rejected": "rejected by a check",
}


def run_id(out: Path) -> str:
    """What the decisions about a run name it by: its pipeline, and a hash of all that it is made with."""
    settings = read_json(out / ABOUT).get("settings", {})
    return f"{str(settings.get('pipeline', 'build')).partition('?')[0]}-{digest(settings)[:12]}"


def decisions_of(out: Path) -> dict[str, Decision]:
    """Those that are kept in the folder. Raises DataError where the file is damaged, or about another run."""
    return read_decisions(out / FILE, run=run_id(out)) if (out / FILE).exists() else {}


def keep(out: Path, files: Sequence[Path]) -> tuple[int, int]:
    """Add the decisions of files to those in the folder, of several about one draft the latest.

    Returns how many of the files' count now, and how many do not because a later one is known.
    Raises UnknownName for one about a draft that there is not, DataError for one about other words than the draft's and
    for a file that is damaged or about another run; then nothing is changed.
    """
    new = [read_decisions(file, run=run_id(out)) for file in files]
    found = latest(decisions_of(out), *new)
    there: set[str] = set()
    for each in made(out):
        for draft in each.drafts:
            name = f"{draft.set}/{draft.row.id}"
            there.add(name)
            if name in found:
                decided(ReviewItem(name, draft.set, draft.row), found[name])
    if unknown := next((name for name in found if name not in there), ""):
        raise UnknownName("draft that was decided on", unknown, sorted(there)[:20], nearest(unknown, there))
    write_decisions(found, out / FILE, run=run_id(out))
    asked = {(number, name) for number, decisions in enumerate(new) for name in decisions}
    taken = {(number, name) for number, name in asked if new[number][name] == found[name]}
    return len({name for _, name in taken}), len(asked - taken)


def sampled(listed: Callable[[], Iterator[ReviewItem]], sample: int, decided: Container[str]) -> Iterator[ReviewItem]:
    """At most `sample` items that nobody decided on, chosen by their ids alone, and all others; in order."""
    open_ = (item.id for item in listed() if item.id not in decided)
    chosen = set(heapq.nsmallest(sample, open_, key=digest))
    return (item for item in listed() if item.id in decided or item.id in chosen)


def items(out: Path, sifted: Sifted) -> Iterator[ReviewItem]:
    """Every draft of a run as it was made, and what was said where none was made, in the order of the starts."""
    if not (out / ABOUT).is_file():
        raise StoreError(f"{out} is no folder of `vlmend build`")
    for each in made(out):
        for draft in each.drafts:
            name = f"{draft.set}/{draft.row.id}"
            why = sifted.why.get(name, ())
            status = f"filtered: {why[0].partition(':')[0]}" if why else KEPT
            yield ReviewItem(name, draft.set, draft.row, status, why, draft.row.meta)
        for number, loss in enumerate(each.losses):
            about: Mapping[str, str] = {"start": each.start, "stage": loss.stage}
            yield ReviewItem(
                f"lost/{each.start}/{number}", "", loss.said, LOST[loss.kind], (loss.why,), about, each.pictures
            )
        if each.failed:
            yield ReviewItem(f"failed/{each.start}", "", "", "failed", (each.failed,), {"start": each.start})
