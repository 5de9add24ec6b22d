"""`vlmend convert`: a checkpoint in LLaVA's own format as one that transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json


def convert(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A whole model, or a LoRA folder of one.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the converted model.", show_default=False)],
    base: Annotated[
        str, typer.Option(help="The base of a LoRA folder, where it is not what the folder names.", show_default=False)
    ] = "",
    vision_tower: Annotated[
        str, typer.Option(help="The vision tower, where it is not what the checkpoint names.", show_default=False)
    ] = "",
    json_: Json = False,
) -> None:
    """Write a checkpoint of LLaVA's own code (llava_llama) as transformers' LLaVA, which everything here loads."""
    from vlmend.models.original import convert as make

    about = make(folder, out, base, vision_tower)
    if json_:
        print_json({"model": str(out), **{key: about[key] for key in ("base", "vision_tower", "dtype", "weights")}})
        return
    typer.echo(f"{out}: {folder} as transformers' LLaVA, {about['dtype']}")
