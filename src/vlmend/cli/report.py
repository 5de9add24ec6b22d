"""`vlmend report`: one page, in one file, from run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders written by `vlmend eval`.")],
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Safety report",
    limit: Annotated[int, typer.Option(min=0, help="Examples in the gallery of each suite.")] = 12,
    json_: Json = False,
) -> None:
    """Write one self-contained page about RUNS: rates with intervals, bars, examples side by side, provenance."""
    from vlmend.report.page import build
    from vlmend.report.runs import sections

    path = build(title, sections(runs, limit=limit), out)
    if json_:
        print_json({"report": str(path), "runs": [{"run": str(run)} for run in runs]})
        return
    typer.echo(f"report: {path}")
