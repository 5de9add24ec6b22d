"""`vlmend tune`: make a model safer by a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import Json, console, print_json
from vlmend.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from vlmend.config import Recipe


def tune(
    recipe: Annotated[
        Path, typer.Argument(help="Your file, or the name of a recipe such as world/sft_balanced.", show_default=False)
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override a setting; repeat for more.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Same as --set output.dir=…", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Same as --set train.seed=…", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="Same as --set model.device=…", show_default=False)] = None,
    no_feature_cache: Annotated[
        bool, typer.Option("--no-feature-cache", help="Same as --set speed.features=false.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show recipe, what trains and the mask report; train nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Tune a model as RECIPE says; the same command goes on with a run that was stopped."""
    import json

    from vlmend.config import load_recipe
    from vlmend.recipes import find

    named = {"output.dir": out, "train.seed": seed, "model.device": device}
    overrides = [*(set_ or []), *(f"{key}={json.dumps(str(v))}" for key, v in named.items() if v is not None)]
    if no_feature_cache:
        overrides.append("speed.features=false")
    loaded = load_recipe(find(recipe), overrides)  # before the heavy import below: a wrong recipe is told at once
    shown = console(stderr=True)
    if os.environ.get("RANK", "0") == "0":
        say(shown, f"loading {loaded.model.name} …")
    from vlmend.train.parallel import is_first
    from vlmend.train.run import tune as run

    if dry_run:
        _show(shown, loaded)
    outcome = run(loaded, console=shown, dry_run=dry_run)
    if not is_first():
        return
    if json_:
        more = {"dry_run": True, "recipe": loaded.resolved()} if dry_run else {}
        print_json({**outcome.to_json(), **more})
    elif not dry_run and not outcome.finished_before:
        typer.echo(
            f"{outcome.output}: {outcome.steps} steps, loss {outcome.loss:.4f}, {outcome.seconds:.0f} s,"
            f" weights moved by {outcome.moved:.3g}{_share(outcome.moved_share)}"
        )


def _share(moved: float | None) -> str:
    return "" if moved is None else f" ({100 * moved:.4g} % of them)"


def _show(shown: Console, recipe: Recipe) -> None:
    import yaml

    text = yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True)
    say(shown, text)
