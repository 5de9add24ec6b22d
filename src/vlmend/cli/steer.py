"""`vlmend steer`: find a direction that tells harmful from harmless requests, and put it into a model for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Device, Json, Limit, Missing, MissingImages, console, print_json
from vlmend.terminal import plural, say

app = typer.Typer(name="steer", no_args_is_help=True, rich_markup_mode=None)


@app.command("fit")
def fit(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[+ADAPTER]", help="world, a folder or a Hugging Face id.", show_default=False)
    ],
    data: Annotated[str, typer.Option(help="Source of harmful and harmless examples.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the directions.", show_default=False)],
    limit: Limit = 100,
    missing_images: Missing = MissingImages.ERROR,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Find directions in what MODEL computes on at most 100 examples. No gradient is computed and no weight changed."""
    from vlmend import data as sources
    from vlmend.config import ModelConfig
    from vlmend.errors import UsageError
    from vlmend.models import steering
    from vlmend.models.folder import refuse_full
    from vlmend.models.load import load

    if limit is None or limit > steering.MOST:
        raise UsageError(f"--limit is at most {steering.MOST}: that many examples are enough to find a direction")
    refuse_full(out)
    found = sources.load(data, missing_images=missing_images.value).examples
    sides = [[e for e in found if (e.expected == "answer") is harmless][: limit // 2] for harmless in (False, True)]
    say(console(stderr=True), f"loading {model} …")
    loaded = load(ModelConfig.from_spec(model, device=device))
    made = steering.fit(loaded, [e for side in sides for e in side], name=model, data=data)
    told = steering.save(made, out)
    if json_:
        print_json({"steering": str(out), **{k: told[k] for k in ("layer", "separation", "harmful", "harmless")}})
        return
    typer.echo(
        f"{out}: directions of {plural(len(made.v), 'layer')} from {made.harmful} harmful and {made.harmless} harmless"
        f" examples; they lie farthest apart in layer {made.layer}, by {made.separation[made.layer]:.1f} deviations"
    )


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What steer fit wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the steered model.", show_default=False)],
    strength: Annotated[float, typer.Option(help="How far; 0 leaves the model as it is.")] = 1.0,
    layer: Annotated[int, typer.Option(help="Which layer; -1 for the one found best.")] = -1,
    json_: Json = False,
) -> None:
    """Write the model that DIR was fitted on with its closed form in the weights, for any engine to load."""
    from vlmend.models.steering import export as put_in

    about = put_in(folder, out, strength=strength, layer=layer)
    if json_:
        print_json({"model": str(out), **{key: about[key] for key in ("base", "layer", "strength", "weights")}})
        return
    typer.echo(f"{out}: {about['base']}, steered at layer {about['layer']} by {about['strength']:g}")
