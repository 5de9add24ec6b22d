"""`vlmend report`: one page, in one file, from run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders written by `vlmend eval`.")],
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Safety report",
    limit: Annotated[int, typer.Option(min=0, help="Examples in the gallery of each suite.")] = 12,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write one self-contained page about RUNS: rates with intervals, bars, examples side by side, provenance."""
    from vlmend.report.page import build
    from vlmend.report.runs import sections

    path = build(title, sections(runs, limit=limit), out)
    typer.echo(json.dumps({"report": str(path), "runs": [str(run) for run in runs]}) if json_ else f"report: {path}")
