"""What commands share: options that mean the same everywhere, and how results are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vlmend.terminal import named, plural, table

if TYPE_CHECKING:
    from rich.console import Console

    from vlmend.config import JudgingConfig, Section
    from vlmend.evaluate.score import EvalResult
    from vlmend.report.tables import RateTable
    from vlmend.types import Measured

C = TypeVar("C", bound="Section")


class MissingImages(StrEnum):
    """What to do about pictures that are not there."""

    ERROR = "error"
    PLACEHOLDER = "placeholder"


class Sees(StrEnum):
    """What a judge that asks a model is shown."""

    TEXT = "text"
    IMAGE = "image"


class OnControls(StrEnum):
    """What is done about a judge that fails its known controls."""

    REFUSE = "refuse"
    MARK = "mark"
    NONE = "none"


class Dtype(StrEnum):
    """Precision of the weights."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


MODELS = "world, a folder or a Hugging Face id, each maybe +ADAPTER; openai:NAME@URL; scripted:refuse|comply|FILE"
ModelsAsked = Annotated[list[str], typer.Option("--model", help=f"{MODELS}; repeat for more.")]
Suites = Annotated[list[str], typer.Option("--suite", help="A suite, e.g. world or vlguard:DIR#test; repeat for more.")]
Answers = Annotated[
    list[str] | None,
    typer.Option(
        "--answers",
        metavar="[SUBSET=]FILE",
        show_default=False,
        help="Answers that --model gave elsewhere: no model and no picture is needed. Repeat for more files.",
    ),
]
Attacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="An attack, e.g. one_word:what, a chain 'ATTACK + ATTACK', or none; repeat for more.",
        show_default=False,
    ),
]
Defences = Annotated[
    list[str] | None,
    typer.Option(
        "--defence",
        help="A defence, e.g. system_prompt, a chain 'DEFENCE + DEFENCE', or none; repeat for more.",
        show_default=False,
    ),
]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="[QUESTION=]SPEC",
        show_default=False,
        help="Who answers a question of the suite's; or a judge beside its own. Repeat for more.",
    ),
]
JudgeModel = Annotated[
    str,
    typer.Option("--judge-model", help="The model that judges ask whose spec names none.", show_default=False),
]
JudgeSees = Annotated[
    Sees | None, typer.Option("--judge-sees", help="What such judges are shown; else as each judges best.")
]
JudgeControls = Annotated[
    OnControls | None,
    typer.Option(
        "--judge-controls",
        show_default="refuse",
        help="A judge's model that fails known cases is refused, or marked in every table; none: it is asked none.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ask again what was judged in other runs.")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Run folder; a stopped run goes on there.")]
Missing = Annotated[MissingImages, typer.Option("--missing-images", help="Fail, or draw stand-ins and say so.")]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Fail pictures of more (default 67,108,864).", show_default=False),
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most N examples, evenly over the subsets.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Instead of the suite's.", show_default=False)]
DoSample = Annotated[
    bool | None, typer.Option("--do-sample/--greedy", help="Instead of what the suite does.", show_default=False)
]
Temperature = Annotated[float | None, typer.Option(min=0, help="Of sampling.", show_default=False)]
TopP = Annotated[float | None, typer.Option(min=0, max=1, help="Of sampling.", show_default=False)]
TopK = Annotated[int | None, typer.Option(min=0, help="Of sampling; 0 is off.", show_default=False)]
Samples = Annotated[
    int | None,
    typer.Option("--num-return-sequences", min=1, help="Answers to each prompt; can grow later.", show_default=False),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Prompts at a time, at most.", show_default=False)]
SharePrefix = Annotated[
    bool | None,
    typer.Option(
        "--share-prefix/--no-share-prefix", help="Feed what prompts begin with once (default).", show_default=False
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of sampling (greedy decoding has none).", show_default=False)]
ThinkingBudget = Annotated[
    int | None,
    typer.Option(min=1, help="End reasoning after so many tokens and go on with the answer.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps …")]
Precision = Annotated[Dtype, typer.Option("--dtype", help="Precision of the weights.")]
MaxUnscored = Annotated[
    float, typer.Option(min=0, max=1, help="Exit with 1 when a larger share of any metric's records is unscored.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def configuration(kind: type[C], given: Mapping[str, Any]) -> C:
    """A command's settings, validated: what of `given` (its `locals()`, as a rule) `kind` has a field for.

    An option that was not given, None, is left as `kind` has it.
    """
    from pydantic import ValidationError

    from vlmend.config import explain
    from vlmend.errors import UsageError

    try:
        return kind(**{name: value for name, value in given.items() if name in kind.model_fields and value is not None})
    except ValidationError as error:
        raise UsageError(explain(error, kind)) from error


def judging_config(
    judges: Sequence[str] | None, model: str, sees: Sees | None, controls: OnControls | None
) -> JudgingConfig:
    """Whom a command names beside the judges of its recipes."""
    from vlmend.config import JudgingConfig

    return JudgingConfig(
        judges=tuple(judges or ()),
        model=model,
        sees=sees.value if sees else "",
        controls=controls.value if controls else "",
    )


def judge_settings(
    model: str,
    sees: Sees | None,
    controls: OnControls | None,
    budget: str,
    prices: Path | None,
    *,
    fresh: bool,
    dry_run: bool = False,
) -> dict[str, Any]:
    """JudgeSettings from a command's options."""
    return {
        "model": model,
        "sees": sees.value if sees else "",
        "controls": controls.value if controls else "refuse",
        "budget": budget,
        "prices": prices,
        "cache": not fresh,
        "dry_run": dry_run,
    }


def show(results: Sequence[EvalResult], as_json: bool) -> None:
    """Print what was found: one JSON object, or a table per run."""
    if not as_json:
        defended = any(result.run.settings().get("defence") for result in results)
        for result in results:
            _table(result, costs=defended)
        return
    print_runs(result.to_json() for result in results)


def print_runs(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object of runs, in the same shape for one as for several."""
    print_json({"runs": list(rows)})


def print_json(data: object) -> None:
    """One JSON value on stdout."""
    typer.echo(json.dumps(data, ensure_ascii=False))


def check_unscored(results: Iterable[EvalResult], limit: float) -> None:
    """Exit with 1 when too much could not be scored."""
    bad = [r for r in results if r.unscored > limit]
    for result in bad:
        typer.echo(
            f"vlmend: {result.run.folder}: {100 * result.unscored:.1f} % of a metric's records could not be scored,"
            f" more than --max-unscored {limit:g}",
            err=True,
        )
    if bad:
        raise typer.Exit(1)


def percent(value: float | None) -> str:
    """A rate for people; a dash where nothing is known."""
    return "–" if value is None else f"{100 * value:.1f}"


def stacked(rate: Measured | None) -> str:
    """A rate, its interval and its counts, one below the other; how many clusters there are is left to pages."""
    from vlmend.report import tables

    if rate is None:
        return tables.NOTHING
    lines = tables.value(rate), tables.interval(rate), tables.counts(replace(rate, clusters=0))
    return "\n".join(filter(None, lines))


def console(*, stderr: bool = False) -> Console:
    """Standard output, or where progress goes: as wide as the terminal, and wide enough for tables where it is none."""
    from rich.console import Console

    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=120)


def show_rates(found: RateTable) -> None:
    """Print a table of rates, a part for each condition: models by measures."""
    from rich.text import Text

    from vlmend.report.tables import arrow

    out = console()
    for condition in dict.fromkeys(column.condition for column in found.columns):
        part = found.only(lambda column, condition=condition: column.condition == condition)
        heads = (f"{column.name} {arrow(column.better)}".strip() for column in part.columns)
        made = table(" · ".join(filter(None, (found.title, condition))), "model", *heads)
        for row in part.rows:
            made.add_row(named(row.name), *(Text(stacked(row.rates.get(column))) for column in part.columns))
        out.print(made)
    for line in filter(None, (found.note, *found.marks)):
        out.print(Text(line))


def _table(result: EvalResult, *, costs: bool) -> None:
    from rich.text import Text

    from vlmend.report import tables
    from vlmend.report.runs import Told

    about = result.run.settings()
    attack = " + ".join(about["attack"]) or "none"
    title = f"{about['model']} · suite {Told(result.run).suite} · attack {attack}"
    if defence := about.get("defence"):
        title += f" · behind {' + '.join(defence)}"
    if result.run.manifest().get("answers"):
        title += " · answers made elsewhere"
    if count := result.run.manifest().get("placeholders"):
        title += f" · {count} PLACEHOLDER PICTURES"
    made = table(title, "metric", "k/n", "value", "95 % interval", "unscored", "worst case")
    for metric in result.measured:
        rate = result.metrics[metric.name]
        told = (tables.value(rate), tables.interval(rate) or tables.NOTHING, str(rate.unscored))
        made.add_row(named(metric.name), tables.counted(rate), *told, tables.worst_text(rate, metric.better))
    if any(rate.clusters for rate in result.metrics.values()):
        made.caption = Text(tables.CLUSTERS)
    out = console()
    out.print(made)
    for why in tables.marks(result.metrics.values()):
        out.print(Text(why, style="bold yellow"))
    if costs and result.cost:
        out.print(Text(f"an answer took {result.cost}"))
    for row in result.agreement:
        out.print(Text(_agreed(row)))


def _agreed(row: Mapping[str, Any]) -> str:
    """How far two judges of one question agree."""
    one, other = row["judges"]
    if not row["n"]:
        return f"{row['question']}: no answer that both {one} and {other} spoke of"
    alpha = "no alpha, for all say the same" if row["alpha"] is None else f"Krippendorff's alpha {row['alpha']:.2f}"
    same = f"say the same of {row['agree']:,} of" if row["agree"] is not None else "give numbers to"
    return f"{row['question']}: {one} and {other} {same} {plural(row['n'], 'answer')} that both spoke of; {alpha}"
