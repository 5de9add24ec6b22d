"""`vlmend data export`: a data set in the rows of another program."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json
from vlmend.cli.data._common import Map, mapped


class Format(StrEnum):
    """Whose rows are written."""

    TRL = "trl"
    TRL_MESSAGES = "trl_messages"
    LLAMAFACTORY = "llamafactory"
    SWIFT = "swift"
    ALPACA = "alpaca"
    OPENAI = "openai"
    LLAVA = "llava"
    SHAREGPT = "sharegpt"
    PARQUET = "parquet"
    VLGUARD_AS_CODED = "vlguard_as_coded"


def export(
    source: Annotated[str, typer.Argument(help="A source, e.g. vlguard:data/VLGuard#train.")],
    format_: Annotated[Format, typer.Option("--format", help="Whose rows are written.")],
    out: Annotated[Path, typer.Option(help="A .json, .jsonl or .parquet file, or a folder for data.….")],
    embed: Annotated[bool, typer.Option("--embed", help="Put pictures into the file, not their names.")] = False,
    absolute: Annotated[bool, typer.Option("--absolute", help="Name pictures by absolute paths.")] = False,
    bare: Annotated[bool, typer.Option("--bare", help="Leave out ids, labels and other keys of our own.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Write the first N examples only.")] = None,
    map_: Map = None,
    json_: Json = False,
) -> None:
    """Write SOURCE for another program, labels included. The sources jsonl and hf read what is written."""
    from vlmend.data import export
    from vlmend.data.dataset import read_any
    from vlmend.data.progress import watched
    from vlmend.errors import UsageError

    if format_ is Format.VLGUARD_AS_CODED:
        if embed or absolute or bare or limit or map_:
            raise UsageError(
                f"--format {format_} writes the authors' file as it is: "
                "no --embed, --absolute, --bare, --limit or --map"
            )
        written = export.as_coded(source, out)
    else:
        items = watched(islice(read_any(mapped(source, map_)), limit), "examples written:")
        written = export.write(items, format_.value, out, embed=embed, absolute=absolute, bare=bare)
    if json_:
        print_json(
            {"format": format_.value, "file": str(written.file), "spec": written.spec}
            | {"examples": written.examples, "pairs": written.pairs, "notes": list(written.notes)}
            | {"taken": written.taken}
        )
        return
    what = f"{written.pairs:,} pairs" if written.pairs else f"{written.examples:,} examples"
    typer.echo(f"{what} written to {written.file}")
    for note in written.notes:
        typer.echo(note)
    if written.taken:
        typer.echo(written.taken)
    if written.outside:
        typer.echo(f"its pictures lie outside of its folder; read it as '{written.spec}' (or write them in: --embed)")
