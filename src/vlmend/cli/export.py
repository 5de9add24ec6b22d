"""`vlmend export`: runs in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, console, print_json
from vlmend.terminal import plural, say

app = typer.Typer(name="export", help="Write runs in the formats of other tools.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Write runs in the formats of other tools."""


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
