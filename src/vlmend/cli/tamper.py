"""`vlmend tamper`: how fast what a run made a model forget returns."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import (
    BatchSize,
    Device,
    Json,
    JudgeControls,
    JudgeModel,
    Judges,
    JudgeSees,
    MaxNewTokens,
    configuration,
    console,
    judging_config,
    print_json,
    stacked,
)
from vlmend.terminal import named, say, table

if TYPE_CHECKING:
    from vlmend.evaluate.tamper.run import Tampered

SHOWN = ("complied", "told", "probability", "accuracy")  # as curves
RELEARN, SHARES, BITS = "0,4,16,64", "0.75,0.5,0.25,0", "8,4"


def tamper(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a tuning run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the points; a stopped test goes on there.", show_default="RUN/tamper")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="forgetting:SPEC; else over the data of the run.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most N examples, evenly over the subsets.")] = 200,
    relearn: Annotated[str, typer.Option(metavar="N,…", help="Numbers of examples that are learned again.")] = RELEARN,
    steps: Annotated[int, typer.Option(min=1, help="Steps of relearning.")] = 20,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of relearning; else that of the run.", show_default=False)
    ] = None,
    adapter: Annotated[str, typer.Option(metavar="X,…", help="Shares of the adapter that are left.")] = SHARES,
    quantize: Annotated[str, typer.Option(metavar="N,…", help="Bits that weights are rounded to.")] = BITS,
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
    opening: Annotated[
        list[str] | None,
        typer.Option(help="How the answer is begun for the model; repeat for more.", show_default="Sure,"),
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Chooses the examples that are learned again.")] = 0,
    json_: Json = False,
) -> None:
    """Work at a tuned model, and measure after each step what it says and knows of what it was to forget.

    It is tuned on a few benign or forgotten examples, its adapter is scaled down, its weights are rounded, its answers
    are begun for it. What is done already is not done again.
    """
    from rich.console import Console

    from vlmend.evaluate.tamper.run import TamperConfig
    from vlmend.evaluate.tamper.run import tamper as work
    from vlmend.train.run import tune

    shown = console(stderr=True)

    named = {
        "out": out or run / "tamper", "relearn": _numbers("--relearn", relearn, int),
        "judging": judging_config(judge, judge_model, judge_sees, judge_controls),
        "adapter": _numbers("--adapter", adapter, float), "bits": _numbers("--quantize", quantize, int),
    }  # fmt: skip
    config = configuration(TamperConfig, locals() | named)
    done = work(config, lambda recipe: tune(recipe, console=Console(quiet=True)), partial(say, shown), quiet=True)
    path = _page(done)
    if json_:
        print_json({**done.to_json(), "report": str(path)})
        return
    _show(done)
    console().print(f"report: {path}", markup=False, highlight=False)


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[int | float, ...]:
    from vlmend.errors import UsageError

    try:
        return tuple(kind(word) for word in text.split(",") if word.strip())
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(
            f"{option} {text!r} is no list of {what}, such as {RELEARN if kind is int else SHARES}"
        ) from error


def _page(done: Tampered) -> Path:
    from vlmend.evaluate.tamper.run import curves
    from vlmend.report import page
    from vlmend.report.tamper import Tried, sections

    tried = [Tried(f.point.name, {m: f.measured(m) for m in f.metrics}, f.note) for f in done.found]
    lines = {metric: curves(done, metric) for metric in SHOWN}
    about = {"tamper": done.to_json()["settings"]}
    title = f"How fast the forgotten returns: {done.config.run}"
    return page.build(title, [*sections(tried, lines), page.Provenance(about)], done.config.out / "tamper.html")


def _show(done: Tampered) -> None:
    from rich.text import Text

    from vlmend.report import tables
    from vlmend.report.tamper import HEADS

    columns = [name for name in HEADS if any(found.measured(name) for found in done.found)]
    made = table(f"{done.config.run} · {done.suite}", "tampering", *(HEADS[name] for name in columns))
    for found in done.found:
        cells = [found.measured(name) for name in columns]
        made.add_row(named(found.point.name), *(Text(stacked(cell)) for cell in cells))
    out = console()
    out.print(made)
    for why in tables.marks(found.measured(name) for found in done.found for name in columns):
        out.print(Text(why, style="bold yellow"))
    for found in done.found:
        if found.note:
            out.print(Text(f"{found.point.name}: {found.note}"))
