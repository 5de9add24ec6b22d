"""`vlmend recipe`: read a shipped recipe, or copy it to change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json

app = typer.Typer(name="recipe", no_args_is_help=True, help="Read the recipes that come with vlmend, or copy one.")

Name = Annotated[Path, typer.Argument(metavar="NAME", help="A name of vlmend list recipes.", show_default=False)]


@app.command()
def show(name: Name, json_: Json = False) -> None:
    """Print a recipe, its comments included."""
    from vlmend.recipes import find

    path = find(name)
    text = path.read_text(encoding="utf-8")
    if json_:
        print_json({"recipe": str(name), "path": str(path), "text": text})
    else:
        typer.echo(text, nl=False)


@app.command()
def copy(
    name: Name,
    dest: Annotated[Path, typer.Argument(help="A file, or a folder to copy it into.")] = Path(),
    json_: Json = False,
) -> None:
    """Copy a recipe, to be changed and named by its path; nothing is overwritten."""
    from vlmend.errors import UsageError
    from vlmend.recipes import find

    path = find(name)
    target = dest / path.name if dest.is_dir() else dest
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(path.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise UsageError(f"{target} exists and is not overwritten; name another DEST") from error
    if json_:
        print_json({"recipe": str(name), "copy": str(target)})
    else:
        typer.echo(str(target))
