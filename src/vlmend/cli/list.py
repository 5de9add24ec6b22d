"""`vlmend list`: plugins with one line each, read without importing any; questions, recipes, papers, taxonomies."""

from __future__ import annotations

from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json
from vlmend.errors import UnknownName


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="objectives, sources, judges, questions, recipes, …", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Show what there is of a KIND, or of every kind, one line each."""
    from vlmend import papers, recipes
    from vlmend.build import taxonomies
    from vlmend.metrics.questions import QUESTIONS
    from vlmend.registry import KINDS

    found = {k: {name: registry.summary(name) for name in registry.names()} for k, registry in KINDS.items()}
    found["questions"] = {
        q.name: q.summary + (f" {', '.join(q.values)}" if q.values else "") for q in QUESTIONS.values()
    }
    found["recipes"] = {name: recipes.summary(name) for name in recipes.names()}
    found["papers"] = {name: papers.summary(name) for name in papers.names()}
    found["taxonomies"] = {name: taxonomies.summary(name) for name in taxonomies.names()}
    singular = {k: KINDS[k].kind if k in KINDS else k.removesuffix("s") for k in found} | {"taxonomies": "taxonomy"}
    known = [k for k in found if kind in (None, k, singular[k])]
    if not known:
        raise UnknownName("kind", str(kind), found)
    rows = [{"kind": k, "name": name, "summary": summary} for k in known for name, summary in found[k].items()]
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
