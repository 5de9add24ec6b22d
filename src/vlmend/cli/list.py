"""`vlmend list`: every plugin with one line, read without importing any of them."""

from __future__ import annotations

from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json
from vlmend.errors import UnknownName


def list_(
    kind: Annotated[str | None, typer.Argument(help="objectives, sources, judges, …", show_default=False)] = None,
    json_: Json = False,
) -> None:
    """Show what there is of a KIND, or of every kind, one line each."""
    from vlmend.registry import KINDS

    known = [k for k in KINDS if kind in (None, k, KINDS[k].kind)]
    if not known:
        raise UnknownName("kind", str(kind), KINDS)
    rows = [{"kind": k, "name": name, "summary": KINDS[k].summary(name)} for k in known for name in KINDS[k].names()]
    if json_:
        print_json({"plugins": rows})
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for k in known:
        if not kind:
            typer.secho(k, bold=True)
        for row in rows:
            if row["kind"] == k:
                typer.echo(f"{'' if kind else '  '}{row['name']:<{width}}  {row['summary']}")
