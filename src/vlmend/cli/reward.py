"""`vlmend reward`: how well a reward agrees with preferences that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vlmend.cli._common import (
    Json,
    MaxPixels,
    MaxUnscored,
    Missing,
    MissingImages,
    console,
    percent,
    print_json,
)

if TYPE_CHECKING:
    from vlmend.evaluate.preferring import Preferring
    from vlmend.types import Reward


def reward(
    given: Annotated[
        str,
        typer.Argument(
            metavar="REWARD",
            help="A folder of method reward or cost, or a reward, e.g. judge:refusal.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(metavar="SOURCE", help="A source of preference pairs, e.g. spa_vl:DIR#test.", show_default=False),
    ],
    by: Annotated[
        Literal["category", "subset", "subcategory", "source"], typer.Option(help="What accuracy is also given by.")
    ] = "category",
    least: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 below this accuracy.", show_default=False)
    ] = None,
    missing_images: Missing = MissingImages.ERROR,
    max_pixels: MaxPixels = None,
    max_unscored: MaxUnscored = 0.02,
    json_: Json = False,
) -> None:
    """Give REWARD the two answers of each pair, and count how often the chosen one is worth more."""
    from vlmend.data.dataset import load_pairs
    from vlmend.evaluate.preferring import measure
    from vlmend.rewards.model import Model
    from vlmend.rgb import MAX_PIXELS

    asked = _reward(given)
    pairs = load_pairs(data, missing_images=missing_images.value, max_pixels=max_pixels or MAX_PIXELS).pairs
    found = measure(asked, pairs, by, signs=isinstance(asked, Model) and asked.kind == "cost")
    if json_:
        print_json({"reward": given, "data": data, "by": by, **found.to_json()})
    else:
        _show(found, given, data, by)
    _check(found, least, max_unscored)


def _reward(given: str) -> Reward:
    """A reward by its spec; a folder is that of a model."""
    from vlmend import rewards

    folder = Path(given).expanduser()
    return rewards.from_spec(f"model:{given}" if folder.is_dir() else given)


def _show(found: Preferring, given: str, data: str, by: str) -> None:
    from vlmend.report import tables
    from vlmend.terminal import named, plural, table

    out = console()
    made = table(f"{given} on {data}", by, "chosen is worth more", "95 % interval", "pairs")
    for name, rate in {**found.groups, "all": found.accuracy}.items():
        made.add_row(named(name), tables.value(rate), tables.interval(rate), tables.counts(rate))
    out.print(made)
    mean = found.margin
    if mean.value is not None:
        between = "" if mean.low is None else f" (95 % interval {mean.low:.3g} to {mean.high:.3g})"
        out.print(f"mean margin {mean.value:.3g}{between}, {plural(found.ties, 'tie')}", highlight=False)
    if found.signs is not None:
        told = f"{percent(found.signs.value)} % of {found.signs.n:,} answers are on the side of 0 that says whether"
        out.print(f"{told} they do harm", highlight=False)


def _check(found: Preferring, least: float | None, max_unscored: float) -> None:
    """Exit with 1 when it agrees with too few pairs, or too many could not be scored."""
    wrong: list[Any] = []
    if found.unscored > max_unscored:
        wrong.append(
            f"{100 * found.unscored:.1f} % of the pairs could not be scored, more than --max-unscored {max_unscored:g}"
        )
    if least is not None and (found.accuracy.value is None or found.accuracy.value < least):
        wrong.append(f"accuracy {percent(found.accuracy.value)} % is below --least {least:g}")
    for told in wrong:
        typer.echo(f"vlmend: {told}", err=True)
    if wrong:
        raise typer.Exit(1)
