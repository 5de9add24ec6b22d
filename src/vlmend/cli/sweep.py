"""`vlmend sweep`: recipes times settings, tuned and evaluated, in one table with its safety–utility front."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import (
    Json,
    JudgeControls,
    JudgeModel,
    Judges,
    JudgeSees,
    console,
    judging_config,
    print_json,
    show_rates,
)

if TYPE_CHECKING:
    from vlmend.config import JudgingConfig
    from vlmend.judge.models import Models

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
            metavar="NAME=SUITE [ATTACK …]",
            help="Ask this suite, too, maybe attacked; repeat for more.",
            show_default=False,
        ),
    ] = None,
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
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
    from vlmend.evaluate.judging import JudgeSettings
    from vlmend.evaluate.judging import check as judging_check
    from vlmend.judge.binding import bind
    from vlmend.recipes import find
    from vlmend.registry import suites
    from vlmend.report import tables
    from vlmend.rewards import refuse_same, steered_by
    from vlmend.sweep import grid as grids
    from vlmend.sweep.front import Axes
    from vlmend.sweep.results import check, measures, table

    judging = judging_config(judge, judge_model, judge_sees, judge_controls)
    cells = [replace(cell, judging=judging) for cell in grids.expand([find(recipe) for recipe in recipes], grid or [])]
    asked = grids.conditions(suite, attack or [], condition or [])
    known = measures(asked)
    utility = utility or ("utility" if "utility" in known else "over_refusal")
    meant = check([safety, utility, *(metric or [])], known, asked)
    axes = Axes(safety, utility, {name: meant[name].better for name in (safety, utility)})
    if idle := next((name for name, better in axes.better.items() if better is None), None):
        raise UsageError(f"{idle} only describes: neither more nor less of it is better, so no front can be about it")
    models: dict[JudgingConfig, Models] = {}
    for cell in cells:  # before anything runs: a wrong setting, a judge of another question, and one that is a reward
        recipe = cell.load(out)
        named = recipe.judging
        for condition_ in asked.values() if named.judges or steered_by(recipe.method) else ():
            binding = bind(suites.from_spec(condition_.suite), named.judges)
            refuse_same(recipe.method, set(binding.judges) - binding.allowed)
            if not named.judges:
                continue
            asked_by = models.setdefault(named, JudgeSettings.of(named).models())
            judging_check(binding, asked_by, "", loading=False)
    if base:
        cells.insert(0, grids.untuned(cells))
    pooled = () if each else tuple(pool or [SEED])

    from vlmend.sweep.run import Sweep

    report = Sweep(tuple(cells), out, asked, pooled, axes, workers).run(console(stderr=True))
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
