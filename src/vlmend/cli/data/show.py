"""`vlmend data show`: counts of what is in a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmend.cli._common import Json, console, print_json
from vlmend.cli.data._common import Map, mapped
from vlmend.terminal import table

if TYPE_CHECKING:
    from vlmend.types import Example, Pair

FIRST = 3  # examples printed below the counts


class Pictures(StrEnum):
    """What to do about pictures that are missing: count them, fail, or count what placeholders would replace."""

    COUNT = "count"
    ERROR = "error"
    PLACEHOLDER = "placeholder"


def show(
    source: Annotated[str, typer.Argument(help="A source, e.g. vlguard:data/VLGuard#train or jsonl:rows.jsonl.")],
    json_: Json = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at the first N examples only.")] = None,
    missing_images: Annotated[Pictures, typer.Option(help="What to do about missing pictures.")] = Pictures.COUNT,
    map_: Map = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures, too.", show_default=False)] = None,
    sheet: Annotated[int, typer.Option(min=1, help="Examples on the page.")] = 48,
) -> None:
    """Count what is in SOURCE: examples or pairs, pictures, labels, lengths. Works where the pictures are absent."""
    from vlmend.data.progress import watched
    from vlmend.data.slices import parse_split
    from vlmend.data.summary import Spread, Summary
    from vlmend.registry import Spec

    source = mapped(source, map_)
    summary = Summary(source, parse_split(Spec.parse(source).split)[0])
    chosen: Spread[Example | Pair] = Spread(sheet, lambda item: item.subset, lambda item: item.id)
    first: list[Example | Pair] = []
    for item in watched(_items(source, missing_images, limit), "examples read:"):
        summary.add(item)
        if len(first) < FIRST:
            first.append(item)
        if html is not None:
            chosen.add(item)
    result = summary.result()
    if html is not None:
        from vlmend.report.sheet import build

        build(result, list(chosen), html)
    if json_:
        print_json(result)
        return
    _print(result, first)
    if html is not None:
        typer.echo(f"page: {html}")


def _items(source: str, missing_images: Pictures, limit: int | None) -> Iterable[Example | Pair]:
    """The first examples or pairs of the source; streamed where their pictures need not be looked at."""
    from vlmend.data import placeholder
    from vlmend.data.dataset import PictureRules, pictured, read_any

    items = islice(read_any(source), limit)
    if missing_images is Pictures.COUNT:
        return items
    rules = PictureRules("error" if missing_images is Pictures.ERROR else "placeholder")
    items, absent = pictured(source, tuple(items), rules)
    if warning := placeholder.warning(len(absent)):
        typer.secho(warning, err=True, fg=typer.colors.YELLOW, bold=True)
    return items


def _print(summary: Mapping[str, Any], first: Sequence[Example | Pair]) -> None:
    from rich.text import Text

    from vlmend.types import Example

    out, made = console(), table(summary["source"], "", "")
    made.show_header, made.columns[1].justify = False, "left"
    for key in ("examples", "pairs", "records", "images", "missing_images"):
        made.add_row(key.replace("_", " "), f"{summary[key]:,}")
    for key in ("splits", "subsets", "categories", "subcategories", "expected", "roles", "images_per_example"):
        made.add_row(key.replace("_", " "), Text("\n".join(_counts(summary[key])) or "–"))
    for key, lengths in summary["words"].items():
        made.add_row(f"words per {key}", ", ".join(f"{name} {_number(value)}" for name, value in lengths.items()))
    made.add_row("first words", Text("\n".join(_first_words(summary["first_words"])) or "–"))
    out.print(made)
    for item in first:
        out.print(Text(item.id, style="bold"))
        if isinstance(item, Example):
            out.print(Text(f"  Q ({item.expected}): {item.question}"))
            what = "A" if item.answers or not item.avoid else "to avoid"
            out.print(Text(f"  {what}: {next(iter(item.answers or item.avoid), '–')}"))
        else:
            out.print(Text(f"  Q: {item.question}\n  chosen: {item.chosen}\n  rejected: {item.rejected}"))


def _counts(counts: Mapping[str, int], most: int = 40) -> Iterator[str]:
    for name, count in islice(counts.items(), most):
        yield f"{name}: {count:,}"
    if len(counts) > most:
        yield f"… and {len(counts) - most:,} more"


def _first_words(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for word, labels in counts.items():
        yield f"{word}: " + ", ".join(f"{label} {count:,}" for label, count in labels.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
