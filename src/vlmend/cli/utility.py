"""`vlmend utility`: general ability, as measured by other evaluators."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, show
from vlmend.errors import UsageError

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
    from vlmend.evaluate.imported import read, write

    tasks = read(results, model)
    one = len({task.model for task in tasks}) == 1
    names = [re.sub(r"[^\w.-]+", "-", task.name if one else f"{task.model}-{task.name}") for task in tasks]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{results} holds two results of {twice[0]}; import one of them at a time")
    show([write(task, out / name) for task, name in zip(tasks, names, strict=True)], json_)
