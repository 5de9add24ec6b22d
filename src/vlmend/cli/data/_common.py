"""What the data commands share: keys of rows mapped on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="Read the rows' key KEY as FIELD: --map question=prompt; repeat.", show_default=False),
]


def mapped(spec: str, keys: list[str] | None) -> str:
    """The spec with `KEY=FIELD` items as its option `map`. Raises UsageError."""
    from vlmend.errors import UsageError
    from vlmend.registry import Spec

    if not keys:
        return spec
    pairs = [item.partition("=") for item in keys]
    for item, (key, equals, _) in zip(keys, pairs, strict=True):
        if not key or not equals:
            raise UsageError(f"--map {item!r} should be KEY=FIELD, as in --map question=prompt")
    asked = Spec.parse(spec)
    given = [f"{key}:{name}" for key, _, name in pairs]
    before = [value for key, value in asked.options if key == "map"]
    options = [f"{key}={value}" for key, value in asked.options if key != "map"] + [f"map={','.join(before + given)}"]
    colon, mark = (":" if asked.argument else ""), ("#" if asked.split else "")
    return f"{asked.name}{colon}{asked.argument}{mark}{asked.split}?{'&'.join(options)}"
