"""`vlmend judge RUN`: the second stage of eval alone. What else there is to do with judges are commands below it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vlmend.cli._common import Folder, Json, print_json
from vlmend.cli.judge_card import card
from vlmend.cli.judge_train import train


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
        list[str] | None, typer.Option("--judge", help="Instead of the suite's; repeat for more.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """The second stage of eval alone: judge the stored answers of RUN."""
    from vlmend.evaluate.run import judge_only
    from vlmend.store import find_runs

    new = {str(found.folder): judge_only(found.folder, judge or []) for found in find_runs(run)}
    if json_:
        print_json({"run": str(run), "judged": sum(new.values()), "runs": new})
    else:
        for folder, count in new.items():
            typer.echo(f"{folder}: {count} new verdicts")


app.command("card", short_help="How far judges can be trusted, by labeled answers.")(card)
app.command("train", short_help="Train a small judge on labeled answers.")(train)
