"""`vlmend export`: runs and recipes in the formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, console, print_json
from vlmend.terminal import plural, say


class Program(StrEnum):
    """Who is to tune."""

    TRL = "trl"
    VERL = "verl"


app = typer.Typer(name="export", help="Write runs and recipes in the formats of other tools.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Write runs and recipes in the formats of other tools."""


@app.command("inspect", short_help="Logs that `inspect view` opens.")
def inspect(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the logs.")] = Path("logs"),
    json_: Json = False,
) -> None:
    """Write a log of each of RUNS for Inspect: pictures, answers of all samples, what each judge said, the numbers."""
    from vlmend.report.inspect_log import write
    from vlmend.store import find_runs

    shown = console(stderr=True)
    written = [write(run, out) for folder in runs for run in find_runs(folder)]
    for log in written:
        if log.lost:
            say(shown, f"{log.path}: {plural(len(log.lost), 'picture')} cannot be read, first {log.lost[0]}", "yellow")
    if json_:
        print_json({"logs": [{"log": str(log.path), "samples": log.samples} for log in written]})
        return
    for log in written:
        typer.echo(f"{log.path}: {plural(log.samples, 'sample')}; inspect view --log-dir {out} shows them")


@app.command("rl", short_help="Prompts and rewards for TRL's GRPOTrainer or verl.")
def rl(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe, or its name, whose method learns from rollouts.", show_default=False)
    ],
    program: Annotated[Program, typer.Option("--for", help="Who is to tune.")],
    out: Annotated[Path, typer.Option(help="A folder for rows, pictures and reward.py.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override a setting; repeat for more.", show_default=False),
    ] = None,
    json_: Json = False,
) -> None:
    """Write the prompts of RECIPE and its rewards as a function, for trainers that run on many GPUs."""
    from vlmend.config import load_recipe
    from vlmend.recipes import find

    loaded = load_recipe(find(recipe), set_ or [])
    from vlmend.train.handover import write

    written = write(loaded, program.value, out)
    if json_:
        print_json({"folder": str(written.folder), "prompts": written.prompts, "notes": list(written.notes)})
        return
    for note in written.notes:
        say(console(stderr=True), note, "yellow")
    typer.echo(f"{written.folder}: {plural(written.prompts, 'prompt')} for {program.value}, and reward.py")
