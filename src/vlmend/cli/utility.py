"""`vlmend utility`: general ability, as measured by other evaluators."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import Json, console, percent, print_json, show
from vlmend.errors import UsageError
from vlmend.terminal import named, say, table

if TYPE_CHECKING:
    from vlmend.evaluate.score import EvalResult

app = typer.Typer(name="utility", help="General ability, as measured by other evaluators.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """General ability, as measured by other evaluators."""


@app.command("import", short_help="Read results of lmms-eval or VLMEvalKit into runs.")
def import_(
    results: Annotated[
        Path, typer.Argument(help="A results file or a folder of lmms-eval or VLMEvalKit.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the runs, one per task.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="The model's name in tables, in place of the one in the files.", show_default=False)
    ] = "",
    json_: Json = False,
) -> None:
    """Make a run of each task in RESULTS, which reports and comparisons take like those of `vlmend eval`."""
    show(_imported(results, out, model), json_)


@app.command("run", short_help="Have lmms-eval measure a model, and read its results.")
def run(
    model: Annotated[
        str,
        typer.Argument(help="world, a folder or a hub id, maybe +ADAPTER; or openai:NAME@URL.", show_default=False),
    ],
    tasks: Annotated[str, typer.Option(help="Tasks of lmms-eval, separated by commas.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the runs, one per task.", show_default=False)],
    with_: Annotated[str, typer.Option("--with", help="The evaluator.")] = "lmms-eval",
    python: Annotated[
        Path | None,
        typer.Option(help="The interpreter of the environment that has it (default: this one).", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most N questions of each task.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts at a time.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 …")] = "auto",
    include: Annotated[
        Path | None, typer.Option(help="A folder of further tasks in its format.", show_default=False)
    ] = None,
    as_: Annotated[
        str, typer.Option("--as", help="What it calls models of this sort, e.g. vllm.", show_default=False)
    ] = "",
    model_arg: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of that model.", show_default=False)
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="The model's name in tables (default: as given).", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the command, and start nothing.")] = False,
    json_: Json = False,
) -> None:
    """Start an evaluator on MODEL in its own environment, show the command, and make a run of each task it measured.

    An adapter is merged into its base first. The same command again asks nothing twice.
    """
    from vlmend.evaluate import bridge

    if with_ != "lmms-eval":
        raise UsageError(
            f"--with {with_}: only lmms-eval is started from here; run {with_} itself, then `vlmend utility import`"
            " reads what lmms-eval and VLMEvalKit wrote"
        )
    wanted = bridge.Wanted(
        [task.strip() for task in tasks.split(",") if task.strip()], str(python or sys.executable), limit, batch_size,
        device, include, as_, model_arg or (),
    )  # fmt: skip
    shown = console(stderr=True)
    found = bridge.run(model, wanted, out, lambda text: say(shown, text), dry=dry_run)
    if not dry_run:
        show(_imported(found, out, name or model), json_)


@app.command("average", short_help="Put a model's ability into one number, as a paper does.")
def average(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Runs, or folders of them.", show_default=False)],
    of: Annotated[str, typer.Option(help="Which average.")] = "specificity",
    json_: Json = False,
) -> None:
    """The mean over the sets that a paper names, from runs of our suites and imported ones, a row for each model.

    A set that is missing is named, and there is no average then.
    """
    from vlmend.evaluate.averages import average as take
    from vlmend.evaluate.averages import find
    from vlmend.store import find_runs

    what = find(of)
    found = take(what, [run for folder in runs for run in find_runs(folder)])
    if json_:
        print_json({"average": of, "summary": what.summary, "models": [row.to_json() for row in found]})
        return
    made = table(what.summary, "model", *what.sets, of)
    for row in found:
        shown = [percent(row.parts[name].value) if name in row.parts else "missing" for name in what.sets]
        ends = f" ({percent(row.interval[0])} to {percent(row.interval[1])})" if row.interval else ""
        made.add_row(named(row.model), *shown, percent(row.value) + ends)
    console().print(made)
    for row in found:
        if row.missing:
            typer.echo(f"{row.model}: no average, for {', '.join(row.missing)} of {len(what.sets)} sets are missing")


def _imported(results: Path, out: Path, model: str) -> list[EvalResult]:
    """A run for each task of the results, in folders of their own below `out`."""
    from vlmend.evaluate.imported import read, write

    tasks = read(results, model)
    one = len({task.model for task in tasks}) == 1
    names = [re.sub(r"[^\w.-]+", "-", task.name if one else f"{task.model}-{task.name}") for task in tasks]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{results} holds two results of {twice[0]}; import one of them at a time")
    return [write(task, out / name) for task, name in zip(tasks, names, strict=True)]
