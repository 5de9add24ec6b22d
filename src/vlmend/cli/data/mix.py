"""`vlmend data mix`: choose the rows of a recipe's mix and write them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmend.cli._common import Json, console, print_json
from vlmend.terminal import table


def mix(
    recipe: Annotated[Path, typer.Argument(help="A recipe by file or name, or one with the section `data` alone.")],
    out: Annotated[Path, typer.Option(help="Where to write which rows were chosen (JSON).")] = Path("mix.json"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key: data.mix.0.n=100.")] = None,
    json_: Json = False,
) -> None:
    """Choose the rows of RECIPE's mix and write their ids to a file that `data.replay` takes again."""
    from vlmend.config import load_data
    from vlmend.data.mix import build
    from vlmend.recipes import find

    made = build(load_data(find(recipe), set_))
    if made.warning:
        typer.secho(made.warning, err=True, fg=typer.colors.YELLOW, bold=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(made.report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if json_:
        print_json(made.report)
        return
    _print(made.report)
    typer.echo(f"rows written to {out}; take them again with --set data.replay={out}")


def _print(report: dict[str, Any]) -> None:
    from rich.text import Text

    made = table("", "source", "taken", "of", "weight", "role")
    source, *numbers = made.columns
    source.no_wrap, source.overflow = False, "fold"  # a spec may be longer than a line, and is needed whole
    for column in numbers:
        column.no_wrap = True
    for part in report["parts"]:
        cells = (f"{part['taken']:,}", f"{part['available']:,}", f"{part['weight']:g}", part["role"] or "as given")
        made.add_row(Text(part["source"]), *cells)
    console().print(made)
    subsets = ", ".join(f"{name or 'none'} {count:,}" for name, count in report["subsets"].items())
    typer.echo(f"{report['examples']:,} examples; subsets: {subsets}")
