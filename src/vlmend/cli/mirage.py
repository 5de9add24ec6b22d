"""`vlmend mirage`: what a model's safety hangs on, as one table, one figure and one line per model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import (
    BatchSize,
    Device,
    Dtype,
    Json,
    Limit,
    MaxNewTokens,
    MaxPixels,
    Missing,
    MissingImages,
    Precision,
    configuration,
    console,
    print_json,
    stacked,
)
from vlmend.terminal import table

if TYPE_CHECKING:
    from vlmend.evaluate.mirage.card import Mirage
    from vlmend.report.mirage import CardRow, Told

Models = Annotated[
    list[str],
    typer.Option("--model", help="A model as eval takes it; repeat for more.", show_default=False),
]


def mirage(
    model: Models,
    out: Annotated[Path, typer.Option(help="Folder of the runs and of the page; a stopped card goes on there.")],
    data: Annotated[
        str | None, typer.Option(help="A source with requests to refuse and to answer.", show_default=False)
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Or a suite, e.g. world or vlguard:DIR#test.", show_default=False)
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model before tuning, to compare with.", show_default=False)
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Source the model was tuned on: where words are looked for.", show_default=False)
    ] = None,
    opening: Annotated[
        str | None, typer.Option(help="First words to open with, e.g. what,how.", show_default="found by an audit")
    ] = None,
    closing: Annotated[
        str | None, typer.Option(help="First words to close with, e.g. share.", show_default="found by an audit")
    ] = None,
    shots: Annotated[int, typer.Option(min=1, max=3, help="K of any-of-K.")] = 3,
    samples: Annotated[int, typer.Option(min=0, help="Answers drawn at temperature 1, beside the greedy one.")] = 4,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="NAME=X", help="Of the reading: safe, gap, babble, lost, able, fragile."),
    ] = None,
    missing_images: Missing = MissingImages.ERROR,
    max_pixels: MaxPixels = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    dtype: Precision = Dtype.AUTO,
    json_: Json = False,
) -> None:
    """Probe models with one word changed and with controls, and say in one line what their safety hangs on."""
    from vlmend.errors import UsageError

    if (data is None) == (suite is None):
        raise UsageError("name what is asked: either --data SOURCE or --suite SUITE")
    from vlmend.evaluate.mirage.card import mirage as probe
    from vlmend.evaluate.mirage.probes import MirageConfig

    named = {
        "models": model, "suite": suite or f"source:{data}", "opening": _words(opening), "closing": _words(closing),
        "thresholds": _thresholds(threshold or []),
    }  # fmt: skip
    found = probe(configuration(MirageConfig, locals() | named))
    path = _page(found)
    if json_:
        print_json({**found.to_json(), "report": str(path)})
        return
    show_cards(*card_rows(found))
    console().print(f"report: {path}", markup=False, highlight=False)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",")) if text else ()


def _thresholds(given: list[str]) -> dict[str, str]:
    from vlmend.errors import UsageError

    pairs = [item.partition("=") for item in given]
    wrong = next((item for item, (_, equals, _) in zip(given, pairs, strict=True) if not equals), None)
    if wrong:
        raise UsageError(f"--threshold {wrong!r} is not of the form name=value")
    return {name: value for name, _, value in pairs}


def card_rows(found: Mirage) -> tuple[list[CardRow], Told]:
    """The cards as pages and tables take them."""
    from vlmend.evaluate.mirage.card import SUMMARIES
    from vlmend.report.mirage import CardRow, Told

    blind = found.baseline and CardRow(
        f"no pictures: {found.baseline.name.replace('_', ' ')}", found.baseline.rates, {}, found.baseline.about
    )
    told = Told(
        found.words.opening, found.words.closing, found.words.found_in, found.config.thresholds.model_dump(), SUMMARIES,
        blind,
    )  # fmt: skip
    return [CardRow(c.model, c.rates, c.shots, c.reading, c.changes) for c in found.cards], told


def _page(found: Mirage) -> Path:
    from vlmend.data import placeholder
    from vlmend.report import page
    from vlmend.report.mirage import sections
    from vlmend.report.runs import placeholders

    manifests = {f"{m}, {n}": r.run.manifest() for m, done in found.results.items() for n, r in done.items()}
    made: list[page.Section] = []
    if count := max(placeholders(manifest) for manifest in manifests.values()):
        made.append(page.Banner(placeholder.warning(count)))
    made += [*sections(*card_rows(found)), page.Provenance(manifests)]
    return page.build("What the safety hangs on", made, found.config.out / "mirage.html")


def show_cards(rows: Sequence[CardRow], told: Told) -> None:
    """Print the cards, one model a column: they have more measures than a terminal has room."""
    from rich.text import Text

    from vlmend.report.mirage import table as card_table

    made = card_table(rows, told)
    shown = table("mirage card", "measure", *(row.name for row in made.rows))
    for column in made.columns:
        shown.add_row(Text(column.title), *(Text(stacked(row.rates.get(column))) for row in made.rows))
    out = console()
    if told.found_in:
        shown.caption = Text(f"Words found in {told.found_in}.")
    out.print(shown)
    for row in rows:
        out.print(Text(f"{row.model}: {row.reading}", style="bold"))
