"""What commands that ask servers share: a budget, a price file, batches, a dry run, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from vlmend.cli._common import console, print_json
from vlmend.errors import UsageError
from vlmend.terminal import plural, table

if TYPE_CHECKING:
    from vlmend.evaluate.asking import Known
    from vlmend.evaluate.judging import Amount
    from vlmend.evaluate.run import EvalConfig
    from vlmend.judge.verdicts import Planned
    from vlmend.money import Purse
    from vlmend.types import Backend

NO_AMOUNTS: Mapping[str, Amount] = MappingProxyType({})

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


def is_server(model: str) -> bool:
    """Whether a model is one on a server, whose answers may cost money."""
    return model.startswith("openai:")


def servers(configs: Sequence[EvalConfig], budget: str, prices: Path | None, batch: bool) -> dict[str, Backend]:
    """The models on servers, by name, as the options have them; they are paid from one purse."""
    from vlmend.evaluate.run import backend_of

    options = {"budget": budget, "prices": str(prices) if prices else "", "batch": "yes" if batch else ""}
    given = [f"{name}={value}" for name, value in options.items() if value]
    on_servers = {config.model: config for config in configs if is_server(config.model) and not config.answers}
    if given and not on_servers:
        raise UsageError(f"--{given[0].partition('=')[0]} is for models on servers (openai:NAME@URL)")
    found: dict[str, Backend] = {}
    for model, config in on_servers.items():
        joint = "&" if "?" in model else "?"
        spec = model + (joint + "&".join(given) if given else "")
        found[model] = backend_of(config.model_copy(update={"model": spec}))
    purse = purse_of(found) if given else None
    for each in found.values():
        if purse:
            _charge(each, purse)
    return found


def paying(model: str, purse: Purse, batch: bool) -> Backend:
    """The model, paid from this purse where it is on a server. Raises UsageError for a budget that cannot be kept."""
    from vlmend.registry import backend_for

    if batch and is_server(model):
        model += ("&" if "?" in model else "?") + "batch=yes"
    found = backend_for(model)
    _charge(found, purse)
    return found


def _charge(model: Backend, purse: Purse) -> None:
    """Have a model on a server paid from this purse. Raises UsageError for a budget that cannot be kept."""
    account = getattr(model, "account", None)
    if account:
        purse.check(account.model)
        account.purse = purse


def dry_run(configs: Sequence[EvalConfig], servers: Mapping[str, Backend], prices: Path | None, as_json: bool) -> None:
    """Print the estimate."""
    from vlmend.evaluate.estimate import expected
    from vlmend.evaluate.run import backend_of
    from vlmend.money import Purse, load_prices

    purse = Purse(load_prices(prices), dry=True)
    told: list[str] = []
    for model in dict.fromkeys(config.model for config in configs):
        some = [config for config in configs if config.model == model]
        asked = servers.get(model) or backend_of(some[0])
        name, known = getattr(asked, "name", model), purse.known
        expected(some, asked, name, purse)
        told.append(_expected(purse, name, purse.known - known))
    if as_json:
        print_json(purse.to_json())
        return
    for line in told:
        typer.echo(line)


def show_plan(
    configs: Sequence[EvalConfig], servers: Mapping[str, Backend], as_json: bool, known: Known | None = None
) -> None:
    """Who would be asked what of how many answers, and what answers from servers and the judges would cost."""
    from vlmend.evaluate.estimate import expected
    from vlmend.evaluate.run import plan

    found = plan(configs, known)
    for model, server in servers.items():
        some = [config for config in configs if config.model == model]
        expected(some, server, getattr(server, "name", model), found.purse)
    tell_plan(found.purse, found.planned, as_json, found.asked)


def tell_plan(
    purse: Purse, planned: Mapping[str, Sequence[Planned]], as_json: bool, amounts: Mapping[str, Amount] = NO_AMOUNTS
) -> None:
    """Who would be asked what, by suite or run, and the bill. `amounts` are what the model would be asked itself."""
    if as_json:
        asked = {suite: [asdict(row) for row in rows] for suite, rows in planned.items()}
        answers = {"answers": {suite: asdict(amount) for suite, amount in amounts.items()}} if amounts else {}
        print_json({**purse.to_json(), "asked": asked, **answers})
        return
    for suite, rows in planned.items():
        much = amounts.get(suite)
        of = f": {plural(much.answers, 'answer')}, {plural(much.pictures, 'picture')}" if much else ""
        if much and (much.calls > much.answers or much.looks):
            looks = plural(much.looks, "look")
            of += f"; behind the defence at most {plural(much.calls, 'call')} of the model, and {looks}"
        console().print(Text(suite + of, style="bold"))
        made = table("who is asked", "judge", "questions", "answers, at most", "known controls")
        for row in rows:
            made.add_row(
                Text(row.judge), Text(", ".join(row.questions) or "its own"), f"{row.answers:,}", f"{row.controls:,}"
            )
        console().print(made)
    show_bill(purse, False)


def purse_of(servers: Mapping[str, Backend]) -> Purse | None:
    """What the servers' budget is kept in, so that judges pay from the same."""
    accounts = (getattr(server, "account", None) for server in servers.values())
    return next((account.purse for account in accounts if account), None)


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


def tell_spent(servers: Mapping[str, Backend]) -> None:
    """A line on stderr about what each server was paid."""
    for server in servers.values():
        account = getattr(server, "account", None)
        row: dict[str, Any] = account.purse.to_json()["models"].get(account.model, {}) if account else {}
        if account and row.get("calls"):
            what = f"{row['calls']} calls, {row['input_tokens']} + {row['output_tokens']} tokens"
            name = f"{account.model}: " if len(servers) > 1 else ""
            typer.echo(f"spent: {name}{what}, {_money(row['cost'], account.purse)}", err=True)


def _expected(purse: Purse, model: str, known: int) -> str:
    row: dict[str, Any] = purse.to_json()["models"].get(model, {})
    if not row:
        return f"{model}: nothing to ask, all {known} answers are there"
    return (
        f"{model}: {row['calls']} calls ({known} answers are there), about {row['input_tokens']} + "
        f"{row['output_tokens']} tokens, at most {row['most_tokens']}; "
        f"about {_money(row['cost'], purse)}, at most {_money(row['most_cost'], purse)}"
    )


def _money(amount: float | None, purse: Purse) -> str:
    if amount is None:
        return f"an unknown cost (no price in {purse.prices.path})"
    return f"{amount:.2f} {purse.prices.currency}"
