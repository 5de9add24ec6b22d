"""`vlmend sweep`: recipes times settings, tuned and evaluated, in one table with its safety–utility front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli import _paid
from vlmend.cli._common import (
    BatchSize,
    Defences,
    Device,
    DoSample,
    Dtype,
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
    Samples,
    Seed,
    SharePrefix,
    Temperature,
    ThinkingBudget,
    TopK,
    TopP,
    configuration,
    console,
    judging_config,
    print_json,
    show_rates,
)

if TYPE_CHECKING:
    from vlmend.config import JudgingConfig
    from vlmend.judge.models import Models
    from vlmend.sweep.grid import Cell, Condition
    from vlmend.sweep.run import Sweep

SEED = "train.seed"


def _from_file(context: typer.Context, file: Path | None) -> Path | None:
    """What a file says stands for what the command line leaves out."""
    if file is not None:
        from vlmend.recipes import find
        from vlmend.sweep.file import read

        context.default_map = {**(context.default_map or {}), **read(find(file))}
    return file


def sweep(
    recipes: Annotated[
        list[Path],
        typer.Argument(help="One or more recipes, files or names; those of --file by default.", show_default=False),
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file with these options, by name; those on the command line decide over it.",
            is_eager=True,
            callback=_from_file,
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B=X,Y,…", help="Values of a setting; repeat for a grid.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; one of its own for each run.")] = Path("runs/sweep"),
    suite: Annotated[str, typer.Option(help="What each tuned model is asked.")] = "world",
    attack: Annotated[
        list[str] | None,
        typer.Option(help="Ask again under this attack, e.g. one_word:what; repeat for more.", show_default=False),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SUITE [ATTACK …] [DEFENCE …]",
            help="Ask this suite, too, maybe attacked or defended; repeat for more.",
            show_default=False,
        ),
    ] = None,
    defence: Defences = None,
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
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
    base: Annotated[bool, typer.Option("--base", help="A row for the model that is not tuned, too.")] = False,
    pool: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B", help="One row for all values of this setting.", show_default=SEED),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Pool nothing: one row for each run.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time.", show_default="as many as there are cores and memory for"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="[CONDITION/]NAME", help="Metrics in the table; all by default.", show_default=False),
    ] = None,
    safety: Annotated[
        str, typer.Option(metavar="[CONDITION/]NAME", help="The metric of safety that the front is about.")
    ] = "asr",
    utility: Annotated[
        str | None,
        typer.Option(
            metavar="[CONDITION/]NAME",
            help="The metric of ability that the front is about.",
            show_default="utility; over_refusal if there is none",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", "--dry-run", help="Say what would be tuned and who asked how much; do nothing."),
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print one table in Markdown.")] = False,
    json_: Json = False,
) -> int:
    """Tune and evaluate every recipe with every combination of settings, each in a process of one thread.

    What is done already is not done again, so the same command goes on with a sweep that was stopped; a run that fails
    is told in one line and the others go on (exit code 1). Seeds share a row, whose interval is for other examples and
    other seeds. The table and OUT/front.png mark the rows that no other beats in both safety (its worst over all
    conditions) and ability; OUT/sweep.json has every number.
    """
    del file  # read before the other options
    from vlmend.errors import UsageError
    from vlmend.evaluate.cells import Asking
    from vlmend.recipes import find
    from vlmend.report import tables
    from vlmend.sweep import grid as grids
    from vlmend.sweep.front import Axes
    from vlmend.sweep.results import check, measures, table

    judging = judging_config(judge, judge_model, judge_sees, judge_controls)
    asking = configuration(Asking, locals())
    cells = [
        replace(cell, judging=judging, asking=asking)
        for cell in grids.expand([find(recipe) for recipe in recipes], grid or [])
    ]
    asked = grids.conditions(suite, attack or [], condition or [], defence or [])
    known = measures(asked)
    utility = utility or ("utility" if "utility" in known else "over_refusal")
    meant = check([safety, utility, *(metric or [])], known, asked)
    axes = Axes(safety, utility, {name: meant[name].better for name in (safety, utility)})
    if idle := next((name for name, better in axes.better.items() if better is None), None):
        raise UsageError(f"{idle} only describes: neither more nor less of it is better, so no front can be about it")
    _check(cells, out, asked)
    if base:
        cells.insert(0, grids.untuned(cells))
    pooled = () if each else tuple(pool or [SEED])

    from vlmend.sweep.run import Sweep

    sweep = Sweep(tuple(cells), out, asked, pooled, axes, workers)
    if plan:
        _show_plan(sweep, json_)
        return 0
    report = sweep.run(console(stderr=True))
    found = table(report.rows, metric or [], report.best)
    if json_:
        print_json(report.to_json())
    elif markdown:
        typer.echo(tables.markdown(found), nl=False)
    else:
        show_rates(found)
    for name, why in report.failed.items():
        typer.echo(f"vlmend: {name} failed: {why}", err=True)
    return int(bool(report.failed))


def _check(cells: Sequence[Cell], out: Path, asked: Mapping[str, Condition]) -> None:
    """Raise what would go wrong after the tuning: a wrong setting, decoding that no suite can have, a wrong judge."""
    from vlmend.evaluate.asking import decoded
    from vlmend.evaluate.judging import JudgeSettings
    from vlmend.evaluate.judging import check as judging_check
    from vlmend.judge.binding import bind
    from vlmend.registry import suites
    from vlmend.rewards import refuse_same, steered_by
    from vlmend.sweep.worker import evaluations

    for config in evaluations(cells[0], out, asked):
        decoded(suites.from_spec(config.suite).decoding, config)
    models: dict[JudgingConfig, Models] = {}
    for cell in cells:
        recipe = cell.load(out)
        named = recipe.judging
        for condition in asked.values() if named.judges or steered_by(recipe.method) else ():
            binding = bind(suites.from_spec(condition.suite), named.judges)
            refuse_same(recipe.method, set(binding.judges) - binding.allowed)
            if not named.judges:
                continue
            asked_by = models.setdefault(named, JudgeSettings.of(named).models())
            judging_check(binding, asked_by, "", loading=False)


def _show_plan(sweep: Sweep, as_json: bool) -> None:
    """Which runs are to be done, and who would be asked what of one of them, each alike."""
    from vlmend.evaluate.run import plan
    from vlmend.sweep.worker import evaluations

    open_ = sweep.open()
    found = plan(evaluations(sweep.cells[0], sweep.out / sweep.cells[0].name, sweep.asked))
    planned = dict(zip(sweep.asked, found.planned.values(), strict=True))
    runs = {"open": [cell.name for cell in open_], "done": len(sweep.cells) - len(open_)}
    if as_json:
        asked = {name: [asdict(row) for row in rows] for name, rows in planned.items()}
        print_json({"runs": runs, "asked_of_each": asked, **found.purse.to_json()})
        return
    typer.echo(f"to be tuned and asked ({runs['done']} of {len(sweep.cells)} are done):")
    for cell in open_:
        typer.echo(f"  {cell.name}")
    typer.echo("each of them under every condition:")
    _paid.tell_plan(found.purse, planned, False)
