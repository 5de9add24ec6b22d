"""`vlmend judge RUN`: the second stage of eval alone. What else there is to do with judges are commands below it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vlmend.cli import _paid
from vlmend.cli._common import (
    Folder,
    Fresh,
    Json,
    JudgeControls,
    JudgeModel,
    JudgeSees,
    MaxUnscored,
    judge_settings,
    print_json,
)
from vlmend.cli.judge_card import card
from vlmend.cli.judge_train import train
from vlmend.terminal import plural


class RunByDefault(TyperGroup):
    """`vlmend judge RUN` means `vlmend judge run RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front of what names none."""
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(name="judge", cls=RunByDefault, help="Judge stored answers.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Judge stored answers: `vlmend judge RUN`, or one of these."""


@app.command("run", short_help="Judge the stored answers of a run (the default).")
def run(
    run: Folder,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            metavar="[QUESTION=]SPEC",
            show_default=False,
            help="Ask these alone: who answers a question, or a judge beside the others. Repeat for more.",
        ),
    ] = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
    budget: _paid.Budget = "",
    prices: _paid.PriceFile = None,
    fresh: Fresh = False,
    dry_run: _paid.DryRun = False,
    max_unscored: MaxUnscored = 0.02,
    json_: Json = False,
) -> None:
    """The second stage of eval alone: judge the stored answers of RUN. Verdicts are stored as they come in."""
    from vlmend.evaluate.judging import JudgeSettings
    from vlmend.evaluate.run import judge_only
    from vlmend.store import find_runs

    settings = judge_settings(judge_model, judge_sees, judge_controls, budget, prices, fresh=fresh, dry_run=dry_run)
    models = JudgeSettings(**settings).models()
    done = {str(found.folder): judge_only(found.folder, judge or [], models) for found in find_runs(run)}
    if dry_run:
        _paid.tell_plan(models.purse, {folder: judged.planned for folder, judged in done.items()}, json_)
    elif json_:
        rows = [{"run": folder, "judged": j.new, "unscored": j.unscored()} for folder, j in done.items()]
        print_json({"runs": rows, "spent": models.purse.to_json()})
    else:
        for folder, judged in done.items():
            typer.echo(f"{folder}: {plural(judged.new, 'new verdict')}")
        if models.purse.billed or models.purse.known:
            _paid.show_bill(models.purse, False)
    if not dry_run and any(judged.unscored_share() > max_unscored for judged in done.values()):
        typer.echo(f"vlmend: more than --max-unscored {max_unscored:g} of a judge's verdicts say nothing", err=True)
        raise typer.Exit(1)


app.command("card", short_help="How far judges can be trusted, by labeled answers.")(card)
app.command("train", short_help="Train a small judge on labeled answers.")(train)
