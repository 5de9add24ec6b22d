"""`vlmend merge`: put an adapter into its base for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Dtype, Json, console, print_json
from vlmend.terminal import say


def merge(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A tuning run's folder, or BASE+ADAPTER.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the merged model.", show_default=False)],
    dtype: Annotated[
        Dtype, typer.Option(help="Precision of what is written; auto: as the base was saved.")
    ] = Dtype.AUTO,
    json_: Json = False,
) -> None:
    """Write the adapter of RUN and its base as one plain model folder, for engines that load no such adapters."""
    from vlmend.models.merge import merge as put_together
    from vlmend.models.merge import of_run

    config = of_run(run)
    shown = console(stderr=True)
    say(shown, f"loading {config.name} with {config.adapter} …")
    about = put_together(config, out, dtype.value)
    if config.quantization != "none":
        say(
            shown,
            f"it was tuned on weights of {config.quantization}, and is merged into whole ones: answers may differ",
        )
    if about["dtype"] != "float32":
        say(
            shown,
            f"merged in float32 and written in {about['dtype']}: some answers may differ; --dtype float32 keeps them",
        )
    if json_:
        print_json({"model": str(out), **{key: about[key] for key in ("base", "adapter", "dtype", "weights")}})
        return
    typer.echo(f"{out}: {config.name} with {config.adapter} merged, {about['dtype']}")
