"""`vlmend paper`: a paper's tables for any model, beside what was published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli import _paid
from vlmend.cli._common import (
    BatchSize,
    Device,
    DoSample,
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
    MaxUnscored,
    Missing,
    MissingImages,
    Precision,
    Samples,
    Seed,
    SharePrefix,
    Temperature,
    ThinkingBudget,
    TopK,
    TopP,
    check_unscored,
    configuration,
    console,
    judge_settings,
    print_json,
)
from vlmend.terminal import named, table

if TYPE_CHECKING:
    from vlmend.papers.paper import Column, Paper
    from vlmend.papers.tables import Laid


WIDE = 4  # columns of numbers that stand side by side in a terminal


def paper(
    name: Annotated[str, typer.Argument(help="A name of vlmend list papers, or a file.", show_default=False)],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=DIR", help="A folder that the paper needs; repeat for more.", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[LABEL=]SPEC", help="A model as eval takes it, and what its row is called.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs and tables; a stopped paper goes on there.")
    ] = None,
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
    fresh: Fresh = False,
    missing_images: Missing = MissingImages.ERROR,
    max_pixels: MaxPixels = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    do_sample: DoSample = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    num_return_sequences: Samples = None,
    seed: Seed = None,
    thinking_budget: ThinkingBudget = None,
    batch_size: BatchSize = None,
    share_prefix: SharePrefix = None,
    device: Device = "auto",
    dtype: Precision = Dtype.AUTO,
    budget: _paid.Budget = "",
    prices: _paid.PriceFile = None,
    batch: _paid.Batch = False,
    plan: _paid.DryRun = False,
    max_unscored: MaxUnscored = 0.02,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    json_: Json = False,
) -> None:
    """Show what a paper needs; with --model and --data, run it and make its tables beside the published figures.

    Each suite is asked once for each model and serves all tables. A column whose folder is not given says so.
    """
    from vlmend.errors import UsageError
    from vlmend.evaluate.asking import Known
    from vlmend.evaluate.cells import EvalConfig
    from vlmend.papers import run as papers
    from vlmend.papers import tables
    from vlmend.papers.paper import read

    found = read(name)
    given = papers.folders(found, data or [])
    if not model:
        if given or plan:
            raise UsageError(f"name the models of the rows of {found.name}: --model [LABEL=]SPEC")
        if markdown:
            typer.echo(tables.overview(found), nl=False)
        else:
            _show_paper(found, json_)
        return
    judging = judge_settings(judge_model, judge_sees, judge_controls, budget, prices, fresh=fresh)
    shared = locals() | {
        "model": "", "suite": "", "out": out or Path("runs/papers") / found.name, "judges": judge, "judging": judging
    }  # fmt: skip
    request = papers.Request(found, papers.labeled(model), given, configuration(EvalConfig, shared))
    on_server = any(map(_paid.is_server, request.models.values()))  # else the budget is for the judges alone
    asking = request.base.judging.models()
    known = Known()
    left_out = papers.check(request, asking, known)
    configs = list(papers.cells(request, left_out).values())
    servers = _paid.servers(configs, budget if on_server else "", prices if on_server else None, batch)
    if plan:
        _paid.show_plan(configs, servers, json_, known)
        return
    purse = _paid.purse_of(servers)
    models = request.base.judging.models(purse) if purse else asking
    try:
        done = papers.run(request, left_out, models, servers, known)
    finally:
        _paid.tell_all_spent(models.purse)
    laid = tables.lay(done)
    written = tables.write(done, laid)
    if json_:
        print_json(tables.as_json(done, laid))
    elif markdown:
        typer.echo(tables.markdown(done, laid), nl=False)
    else:
        for warning in tables.warnings(done):
            typer.secho(warning, bold=True)
        _show_tables(laid)
        typer.echo(f"tables: {', '.join(map(str, written))}")
    check_unscored([result for row in done.results.values() for result in row.values()], max_unscored)


def _show_paper(found: Paper, as_json: bool) -> None:
    """What the paper needs, what makes its rows, and its columns."""
    from rich.text import Text

    from vlmend.papers import tables

    if as_json:
        rows = {table.title: [list(row) for row in found.rows(table)] for table in found.tables}
        print_json({**found.model_dump(), "rows": rows})
        return
    out = console()

    def say(text: str, style: str = "") -> None:
        out.print(Text(text, style=style))

    say(f"{found.title} (arXiv {found.arxiv})", "bold")
    for key, need in found.needs.items():
        say(f"--data {key}=DIR: {need.what}: {need.layout}. From {need.get}")
    for recipe, makes in found.recipes.items():
        say(f"vlmend tune {recipe} makes {makes}")
    _show_tables(tables.as_published(found))


def _parts(columns: Sequence[Column]) -> Iterator[Sequence[Column]]:
    for start in range(0, len(columns), WIDE):
        yield columns[start : start + WIDE]


def _show_tables(laid: Sequence[Laid]) -> None:
    """Print the tables with their legends, in parts as wide as a terminal: groups of columns, a few at a time."""
    from rich.text import Text

    from vlmend.papers import tables

    out = console()
    for one in laid:
        for group, run in groupby(one.table.columns, key=lambda column: column.group):
            for columns in _parts(list(run)):
                title = " · ".join(filter(None, (one.table.title, group, tables.UNITS[one.table.unit])))
                made = table(title, "model", *(f"{c.name} {tables.arrow(c.better)}".strip() for c in columns))
                for row in one.rows:
                    if any(column in row.measured or column in row.figures for column in columns):
                        made.add_row(named(row.name, 60), *(Text("\n".join(one.cell(row, c))) for c in columns))
                out.print(made)
        for line in one.legend:
            out.print(Text(line))
