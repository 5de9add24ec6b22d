"""`vlmend power`: before a run, how many examples it takes, or what so many examples can show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vlmend.cli._common import Json, percent, print_json


def power(
    base: Annotated[float, typer.Option(min=0, max=1, help="The rate expected before, e.g. 0.3.")],
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Examples: which difference do they show?", show_default=False)
    ] = None,
    difference: Annotated[
        float | None, typer.Option(help="Rate after minus rate before: how many examples?", show_default=False)
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Two sets of n examples each, not the same examples twice.")
    ] = False,
    discordant: Annotated[
        float | None,
        typer.Option(help="Share of examples that change; as if unrelated if not given.", show_default=False),
    ] = None,
    power_: Annotated[float, typer.Option("--power", help="Probability to see what is there.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Probability to see what is not there.")] = 0.05,
    tests: Annotated[int, typer.Option(min=1, help="How many tests alpha is shared by (Bonferroni).")] = 1,
    cluster_size: Annotated[float, typer.Option(min=1, help="Examples per picture or seed question.")] = 1.0,
    icc: Annotated[float, typer.Option(min=0, max=1, help="How much outcomes in a cluster correlate.")] = 0.0,
    json_: Json = False,
) -> None:
    """Give --n for the smallest difference that can be shown, or --difference for the number of examples."""
    from vlmend.errors import UsageError
    from vlmend.metrics.power import Design, difference_for, examples_for, power_at

    if (n is None) == (difference is None):
        raise UsageError("give either --n, for a difference, or --difference, for a number of examples")
    design = Design(base, power_, alpha / tests, not unpaired, discordant, cluster_size, icc)
    found: dict[str, Any] = {"base": base, "power": power_, "alpha": alpha / tests, "paired": not unpaired}
    found |= {"discordant": discordant, "design_effect": design.design_effect}
    if difference is not None:
        found |= {"difference": difference, "n": (needed := examples_for(design, difference))}
        found["power_at_n"] = power_at(design, needed, difference)
    else:
        assert n is not None  # noqa: S101  # one of the two was given
        found |= {"n": n, "fall": difference_for(design, n, -1), "rise": difference_for(design, n, 1)}
    if json_:
        print_json(found)
        return
    typer.echo(_told(found, "each of two sets" if unpaired else "the same examples before and after"))


def _told(found: dict[str, Any], sides: str) -> str:
    about = (
        f"base rate {percent(found['base'])} %, power {100 * found['power']:.0f} %, alpha {found['alpha']:.3g}, {sides}"
    )
    if found["discordant"] is not None:
        about += f", {percent(found['discordant'])} % of them change"
    if found["design_effect"] > 1:
        about += f", design effect {found['design_effect']:.2f}"
    if "difference" in found:
        return f"{found['n']:,} examples show a change of {100 * found['difference']:+.1f} points ({about})"
    ends = [
        f"a {name} to {percent(found['base'] + found[name])} % ({100 * found[name]:+.1f} points)"
        for name in ("fall", "rise")
        if found[name] is not None
    ]
    return f"{found['n']:,} examples show {' or '.join(ends) or 'no change at all'}, nothing smaller ({about})"
