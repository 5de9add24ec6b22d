"""A contact sheet of a data set: thumbnails, questions, reference answers and labels, and how much there is of what."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmend.report.gallery import WANTED, Answer, Item, delicate, veiled
from vlmend.report.page import Banner, Gallery, Grid, Section
from vlmend.report.page import build as build_page
from vlmend.types import Example, Pair

COUNTS = ("splits", "subsets", "categories", "subcategories", "expected", "roles", "images_per_example")
MOST = 60  # rows of a table of counts


def build(summary: Mapping[str, Any], shown: Sequence[Example | Pair], out: Path) -> Path:
    """Write the page. `summary` is that of `vlmend.data.summary`; pictures of what is to be refused are blurred."""
    total = summary["examples"] + summary["pairs"]
    kind = "pairs" if summary["pairs"] else "examples"
    lead = f"{total:,} {kind}, {summary['images']:,} pictures. {len(shown):,} {kind} are shown, subsets in turn."
    return build_page(f"What is in {summary['source']}", list(_sections(summary, shown)), out, lead=lead)


def _sections(summary: Mapping[str, Any], shown: Sequence[Example | Pair]) -> Iterator[Section]:
    if missing := summary["missing_images"]:
        yield Banner(f"{missing:,} of {summary['images']:,} pictures are missing.")
    rows = [
        (key.replace("_", " "), name, f"{count:,}")
        for key in COUNTS
        for name, count in list(summary[key].items())[:MOST]
    ]
    yield Grid("Counts", ("what", "which", "how many"), tuple(rows))
    words = summary["first_words"]
    labels = sorted({label for counts in words.values() for label in counts})
    table = tuple((word, *(f"{counts.get(label, 0):,}" for label in labels)) for word, counts in words.items())
    yield Grid("First words of questions", ("word", *labels), table, "A word that goes with one label gives it away.")
    hidden = delicate(item for item in shown if isinstance(item, Example))
    yield Gallery("Examples", tuple(_item(item, hidden) for item in shown))


def _item(item: Example | Pair, hidden: Collection[str]) -> Item:
    labels = [item.category, item.subcategory, f"role {item.role}", *([item.source] if item.source else [])]
    told = " · ".join(filter(None, labels))
    if isinstance(item, Pair):
        answers = (
            Answer("chosen", item.chosen, "chosen", "good"),
            Answer("rejected", item.rejected, "rejected", "bad"),
        )
    else:
        answers = tuple(Answer("reference answer", text, told) for text in item.answers[:1] or ("(none)",))
    return Item(
        id=item.id,
        images=item.images,
        question=item.question,
        wanted=WANTED[item.expected] if isinstance(item, Example) else f"preference · {told}",
        subset=item.subset.replace("_", " "),
        answers=answers,
        veiled=isinstance(item, Pair) or veiled(item, hidden),
    )
