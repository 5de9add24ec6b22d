"""The command line. Building it imports nothing heavy; each command imports what it needs when it runs.

Exits with 0 on success, 1 when the work found a failure it was asked to find, 2 on bad usage or input (one line on
stderr; a traceback with --debug), 130 when interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vlmend.errors import UsageError, VlmendError, brief

CLICK_ERROR = typer.BadParameter.__mro__[2]  # typer brings its own copy of click, or shares it, depending on version
INTERRUPTED = 130


class InOrder(TyperGroup):
    """Commands in the order of the work, not with groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, those that ORDER does not know at the end."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


ORDER = (
    *("demo", "list", "data", "audit", "build", "recipe", "tune", "reward", "merge", "convert", "sweep"),
    *("eval", "generate", "judge", "score", "compare", "utility", "paper", "mirage", "tamper"),
    *("report", "export", "serve", "power", "bench"),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("vlmend"))
        raise typer.Exit


def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")] = False,
    version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Make vision-language models safe, and prove that the safety is not a mirage."""
    del debug, version_  # --debug may stand anywhere, so `main` takes it out before


def application() -> typer.Typer:
    """The application with all its commands."""
    from vlmend.cli import (
        audit,
        build,
        compare,
        convert,
        data,
        demo,
        eval,
        export,
        judge,
        list,
        merge,
        mirage,
        paper,
        power,
        recipe,
        report,
        review,
        reward,
        serve,
        steer,
        sweep,
        tamper,
        tune,
        utility,
    )

    app = typer.Typer(
        name="vlmend", cls=InOrder, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
        rich_markup_mode=None,  # plain help: rich's Markdown and highlighters would take most of the half second
    )  # fmt: skip
    app.callback()(_root)
    app.command("demo", short_help="See the whole loop on the embedded model.")(demo.demo)
    app.command("list", short_help="Show every plugin, one line each.")(list.list_)
    app.add_typer(data.app)
    app.command("audit", short_help="Find what gives the expected behavior away.")(audit.audit)
    app.command("build", short_help="Make a data set with a generator model.")(build.build)
    app.command("review", short_help="Go through what build drafted, and apply decisions.")(review.review)
    app.add_typer(recipe.app, short_help="Read or copy a shipped recipe.")
    app.command("tune", short_help="Make a model safer by a recipe.")(tune.tune)
    app.command("reward", short_help="Hold a reward against held-out preferences.")(reward.reward)
    app.command("merge", short_help="Put an adapter into its base for good.")(merge.merge)
    app.add_typer(steer.app, short_help="Steer a model away from harm.")
    app.command("convert", short_help="Make transformers' LLaVA of LLaVA's own format.")(convert.convert)
    app.command("sweep", short_help="Tune and evaluate recipes times settings.")(sweep.sweep)
    app.command("eval", short_help="Ask a model a suite, judge its answers, count.")(eval.evaluate)
    app.command("generate", short_help="The first stage of eval alone: ask.")(eval.generate)
    app.add_typer(judge.app, short_help="The second stage of eval alone: judge.")
    app.command("score", short_help="The third stage of eval alone: count.")(eval.score)
    app.command("compare", short_help="What changed from one run to another.")(compare.compare)
    app.command("power", short_help="How many examples a difference takes.")(power.power)
    app.command("paper", short_help="A paper's tables for any model.")(paper.paper)
    app.command("mirage", short_help="Say what a model's safety hangs on.")(mirage.mirage)
    app.command("tamper", short_help="Say how fast the forgotten returns.")(tamper.tamper)
    app.command("report", short_help="Write one page about runs.")(report.report)
    app.add_typer(utility.app, short_help="General ability, as measured by other evaluators.")
    app.add_typer(export.app, short_help="Write runs in the formats of other tools.")
    app.command("serve", short_help="Serve a model with vLLM or transformers.")(serve.serve)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    words = [word for word in given if word != "--debug"] or ["--help"]
    try:
        _refuse_bytes(words)
        code = _run(words)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader went away, as in `vlmend list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in given or not isinstance(error, (VlmendError, CLICK_ERROR, OSError)):
            raise
        typer.echo(_one_line(error), err=True)
        code = 2
    if code == INTERRUPTED:
        typer.echo("vlmend: interrupted; what was done is kept", err=True)
    return code


def _refuse_bytes(words: list[str]) -> None:
    """Raise UsageError for an argument that is no text: it can neither be hashed nor shown to a model."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the argument {brief(word)} is not UTF-8") from error


def _run(words: list[str]) -> int:
    code: Any = application()(words, prog_name="vlmend", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _one_line(error: Exception) -> str:
    if isinstance(error, VlmendError):
        return f"vlmend: {' '.join(str(error).split())}"
    if isinstance(error, OSError):  # a place that cannot be written, a full disk, a host that does not answer
        named = f"{error.filename} cannot be used: {error.strerror}" if error.filename else str(error)
        return f"vlmend: {' '.join(named.split())}"
    usage: Any = error
    message: str = usage.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    context = getattr(usage, "ctx", None)
    hint = f" See {context.command_path} --help." if context is not None else ""
    return f"vlmend: {' '.join(message.split())}{hint}"
