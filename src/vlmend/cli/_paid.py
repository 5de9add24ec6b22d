"""What commands that ask servers share: a budget, a price file, batches, a dry run, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from vlmend.cli._common import console, print_json
from vlmend.errors import UsageError
from vlmend.terminal import table

if TYPE_CHECKING:
    from vlmend.evaluate.run import EvalConfig
    from vlmend.judge.verdicts import Planned
    from vlmend.money import Purse
    from vlmend.types import Backend

Budget = Annotated[
    str,
    typer.Option(help="Stop before more than this is spent: 2.50 (money), 500calls or 2Mtokens.", show_default=False),
]
PriceFile = Annotated[
    Path | None, typer.Option("--prices", help="YAML file of prices per million tokens.", show_default=False)
]
Batch = Annotated[bool, typer.Option("--batch", help="Through the provider's batch files: cheaper, up to a day.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "--plan", help="Say who would be asked what and what it would cost; ask nothing.")
]


def backend(config: EvalConfig, budget: str, prices: Path | None, batch: bool) -> Backend | None:
    """The server that the options are for; None where there are none, so that the model is loaded as ever."""
    from vlmend.evaluate.run import backend_of

    options = {"budget": budget, "prices": str(prices) if prices else "", "batch": "yes" if batch else ""}
    given = [f"{name}={value}" for name, value in options.items() if value]
    if not config.model.startswith("openai:") or config.answers:
        if given:
            raise UsageError(f"--{given[0].partition('=')[0]} is for models on servers (openai:NAME@URL)")
        return None
    joint = "&" if "?" in config.model else "?"
    spec = config.model + (joint + "&".join(given) if given else "")
    return backend_of(config.model_copy(update={"model": spec}))


def dry_run(
    config: EvalConfig, suites: Sequence[str], server: Backend | None, prices: Path | None, as_json: bool
) -> None:
    """Print the estimate."""
    from vlmend.evaluate.estimate import expected
    from vlmend.evaluate.run import backend_of
    from vlmend.money import Purse, load_prices

    chosen = server or backend_of(config)
    model = getattr(chosen, "name", config.model)
    purse = expected(config, suites, chosen, model, Purse(load_prices(prices), dry=True))
    if as_json:
        print_json(purse.to_json())
        return
    typer.echo(_expected(purse, model))


def show_plan(config: EvalConfig, suites: Sequence[str], server: Backend | None, as_json: bool) -> None:
    """Who would be asked what of how many answers, and what answers from a server and the judges would cost."""
    from vlmend.evaluate.estimate import expected
    from vlmend.evaluate.run import plan

    found = plan(config, suites)
    if server:
        expected(config, suites, server, getattr(server, "name", config.model), found.purse)
    tell_plan(found.purse, found.planned, as_json)


def tell_plan(purse: Purse, planned: Mapping[str, Sequence[Planned]], as_json: bool) -> None:
    """Who would be asked what, by suite or run, and the bill."""
    if as_json:
        asked = {suite: [asdict(row) for row in rows] for suite, rows in planned.items()}
        print_json({**purse.to_json(), "asked": asked})
        return
    for suite, rows in planned.items():
        console().print(Text(suite, style="bold"))
        made = table("who is asked", "judge", "questions", "answers, at most", "known controls")
        for row in rows:
            made.add_row(
                Text(row.judge), Text(", ".join(row.questions) or "its own"), f"{row.answers:,}", f"{row.controls:,}"
            )
        console().print(made)
    show_bill(purse, False)


def purse_of(server: Backend | None) -> Purse | None:
    """What a server's budget is kept in, so that judges pay from the same."""
    account = getattr(server, "account", None)
    return account.purse if account else None


def show_bill(purse: Purse, as_json: bool) -> None:
    """What was spent, or what a dry run expects to be."""
    if as_json:
        print_json(purse.to_json())
        return
    for line in purse.lines():
        typer.echo(line)


def tell_all_spent(purse: Purse) -> None:
    """A line on stderr for every model on a server that was asked, and for what was known."""
    if purse.billed or purse.known:
        for line in purse.lines():
            typer.echo(f"spent: {line}", err=True)


def tell_spent(server: Backend | None) -> None:
    """One line on stderr about what a server was paid."""
    account = getattr(server, "account", None)
    row: dict[str, Any] = account.purse.to_json()["models"].get(account.model, {}) if account else {}
    if not account or not row.get("calls"):
        return
    cost = _money(row["cost"], account.purse)
    typer.echo(f"spent: {row['calls']} calls, {row['input_tokens']} + {row['output_tokens']} tokens, {cost}", err=True)


def _expected(purse: Purse, model: str) -> str:
    row: dict[str, Any] = purse.to_json()["models"].get(model, {})
    if not row:
        return f"{model}: nothing to ask, all {purse.known} answers are there"
    return (
        f"{model}: {row['calls']} calls ({purse.known} answers are there), about {row['input_tokens']} + "
        f"{row['output_tokens']} tokens, at most {row['most_tokens']}; "
        f"about {_money(row['cost'], purse)}, at most {_money(row['most_cost'], purse)}"
    )


def _money(amount: float | None, purse: Purse) -> str:
    if amount is None:
        return f"an unknown cost (no price in {purse.prices.path})"
    return f"{amount:.2f} {purse.prices.currency}"
