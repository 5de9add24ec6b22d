"""`vlmend mirage`: what a model's safety hangs on, as one table, one figure and one line per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli import _paid
from vlmend.cli._common import (
    BatchSize,
    Device,
    Dtype,
    Fresh,
    Json,
    JudgeControls,
    JudgeModel,
    Judges,
    JudgeSees,
    Limit,
    MaxNewTokens,
    MaxPixels,
    Missing,
    MissingImages,
    Precision,
    configuration,
    console,
    judge_settings,
    print_json,
    stacked,
)
from vlmend.terminal import table

if TYPE_CHECKING:
    from vlmend.evaluate.mirage.card import Card, Mirage
    from vlmend.report.mirage import CardRow, Told
    from vlmend.report.tables import Column
    from vlmend.types import Cell

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
    shots: Annotated[int, typer.Option(min=1, help="K of any-of-K.")] = 3,
    samples: Annotated[int, typer.Option(min=0, help="Answers drawn at temperature 1, beside the greedy one.")] = 4,
    corruption: Annotated[
        str,
        typer.Option(
            metavar="KIND[,KIND…]",
            show_default=False,
            help="Spoil pictures as the attack of that name does, or in all ways; five severities, or ?severity=1,3,5.",
        ),
    ] = "",
    attack: Annotated[
        list[str] | None,
        typer.Option("--attack", help="An attack with a column of its own; repeat for more.", show_default=False),
    ] = None,
    defence: Annotated[
        str, typer.Option(help="A defence, or a chain 'DEFENCE + DEFENCE', that all models stand behind.")
    ] = "none",
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
    fresh: Fresh = False,
    budget: _paid.Budget = "",
    prices: _paid.PriceFile = None,
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
        "thresholds": _thresholds(threshold or []), "judges": judge, "attacks": attack,
        "judging": judge_settings(judge_model, judge_sees, judge_controls, budget, prices, fresh=fresh),
    }  # fmt: skip
    config = configuration(MirageConfig, locals() | named)
    models = config.judging.models()
    try:
        found = probe(config, models=models)
    finally:
        _paid.tell_all_spent(models.purse)
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
    from vlmend.evaluate.mirage.numbers import SUMMARIES
    from vlmend.report.mirage import CardRow, Told

    sides, words = found.sides, found.words
    blind = found.baseline and CardRow(
        f"no pictures: {found.baseline.name.replace('_', ' ')}",
        {name: rate for name, rate in found.baseline.rates.items() if sides.over or name == "asr"}, {},
        found.baseline.about,
    )  # fmt: skip
    summaries = {**SUMMARIES, "asr": sides.danger.summary, "over_refusal": sides.over.summary if sides.over else ""}
    told = Told(
        words.opening, words.closing, words.found_in, found.config.thresholds.model_dump(), summaries, blind,
        danger=sides.danger.title, over=sides.over.title if sides.over else "", more=_more(found), note=words.note,
    )  # fmt: skip
    return [_row(found, card) for card in found.cards], told


def _row(found: Mirage, card: Card) -> CardRow:
    from vlmend.report.mirage import CardRow
    from vlmend.report.tables import Column

    spoilt, columns = card.spoilt, _measures(found)
    by_name = {
        name: [
            ("clean", spoilt.clean.get(name)),
            *((level, rates.get(name)) for level, rates in spoilt.by_level.items()),
        ]
        for name in spoilt.together
    }
    curve = {"words": card.curve.opened, "paraphrases": card.curve.control}
    behind = f" behind {found.config.defence}" if found.config.defence != "none" else ""
    return CardRow(
        card.model + behind,
        {**card.rates, **{f"own {name}": rate for name, rate in card.own.items()},
         **{f"attack {spec}": rate for spec, rate in card.attacks.items()}},
        card.shots, card.reading, card.changes,
        {what: [(str(k), rate) for k, rate in enumerate(rates, 1)] for what, rates in curve.items()},
        by_name,
        {replace(columns[name], condition=kind): rate for kind, rates in spoilt.by_kind.items()
         for name, rate in rates.items()},
        {replace(columns[side], condition=_cell(cell)): rate for (side, cell), rate in card.cells.items()},
        {Column(name, "", m.better, m.summary): rate for name, (m, rate) in card.suite.items()},
    )  # fmt: skip


def _measures(found: Mirage) -> dict[str, Column]:
    """What is measured of every request, by its name on cards."""
    from vlmend.report.tables import Column

    sides = found.sides
    made = {m.name: Column(m.name, "", "high", m.summary) for m in sides.ability}
    made |= {name: Column(side.title, "", "low", side.summary) for name, side in sides.both.items()}
    return {**made, "senseless": Column("without sense", "", "low")}


def _cell(cell: Cell) -> str:
    """`safe picture, unsafe words`; what is not said is left out."""
    parts = {"picture": cell.picture, "words": cell.text}
    told = ", ".join(f"{side} {what}" for what, side in parts.items() if side)
    return (
        f"{told}, {cell.both} together" if cell.both == "unsafe" and "unsafe" not in (cell.picture, cell.text) else told
    )


def _more(found: Mirage) -> dict[str, Column]:
    """Columns that not every card has: abilities, further rates of the suite, attacks."""
    from vlmend.evaluate.mirage.card import writes_text
    from vlmend.report.tables import Column

    made: dict[str, Column] = {}
    columns = _measures(found)
    for name in found.sides.stakes.instead:
        summary = next((m.summary for card in found.cards for n, (m, _) in card.suite.items() if n == name), "")
        made[name] = Column(name, "plain", "low", summary)
    for m in found.sides.ability:
        if m.name not in ("accuracy", "utility"):
            made[m.name] = replace(columns[m.name], condition="plain")
            made[f"{m.name}_corrupted"] = replace(columns[m.name], condition="pictures spoilt")
    over = found.sides.over_parts({name for card in found.cards for name in card.suite})
    for name in dict.fromkeys(name for card in found.cards for name in card.own):
        side = columns["over_refusal" if name in over else "asr"]
        made[f"own {name}"] = replace(
            side, condition=f"plain, {name}", summary="of a part of the suite, or by another judge"
        )
    for spec in found.config.attacks:
        text = ", text written into pictures" if writes_text(spec) else ""
        made[f"attack {spec}"] = replace(
            columns["asr"], condition=f"under {spec}{text}", summary="with sense, any variant"
        )
    return made


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
    where = f"words found in {told.found_in}" if told.found_in else ""
    if caption := "; ".join(filter(None, (where, told.note))):
        shown.caption = Text(f"{caption[0].upper()}{caption[1:]}.")
    out.print(shown)
    for why in made.marks:
        out.print(Text(why, style="bold yellow"))
    _show_spoilt(rows, told)
    for row in rows:
        out.print(Text(f"{row.model}: {row.reading}", style="bold"))


def _show_spoilt(rows: Sequence[CardRow], told: Told) -> None:
    """Print what spoilt pictures do, a model and a measure a row, severities across."""
    from rich.text import Text

    if not any(row.spoilt for row in rows):
        return
    steps = next(iter(next(row.spoilt for row in rows if row.spoilt).values()))
    made = table("on spoilt pictures, by severity", "model", "measure", *(name for name, _ in steps))
    for row in rows:
        for name, found in row.spoilt.items():
            made.add_row(Text(row.model), Text(told.title(name)), *(Text(stacked(rate)) for _, rate in found))
    console().print(made)
