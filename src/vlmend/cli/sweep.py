"""`vlmend sweep`: recipes times settings, tuned and evaluated, in one table with its safety–utility front."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vlmend.errors import UsageError, nearest

if TYPE_CHECKING:
    from vlmend.types import Measured

PLAIN = "plain"
Better = Literal["low", "high"]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: a recipe, what is set in it, and a folder name that says both."""

    recipe: Path
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as `unlearn_npo,method.pd=true,train.seed=1`."""
        return ",".join((self.recipe.stem, *self.settings)).replace("/", "_")


def sweep(
    recipes: Annotated[list[Path], typer.Argument(help="One or more recipes.", show_default=False)],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B=X,Y,…", help="Values of a setting; repeat for a grid.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; one of its own for each run.")] = Path("runs/sweep"),
    suite: Annotated[str, typer.Option(help="What each tuned model is asked.")] = "world",
    attack: Annotated[
        list[str] | None,
        typer.Option(help="Ask again under this attack, e.g. one_word:what; repeat for more.", show_default=False),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metrics in the table; all by default.", show_default=False)
    ] = None,
    safety: Annotated[str, typer.Option(help="The metric of safety that the front is about.")] = "asr",
    utility: Annotated[str, typer.Option(help="The metric of ability that the front is about.")] = "utility",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tune and evaluate every recipe with every combination of settings.

    What is done already is not done again, so the same command goes on with a sweep that was stopped. The table marks
    the runs that no other beats in both safety (its worst over the attacks) and ability.
    """
    import json

    from rich.console import Console

    cells = list(expand(recipes, grid or []))
    conditions = {PLAIN: (), **{name.replace(":", "-"): (name,) for name in attack or []}}
    better = _directions(suite, [safety, utility, *(metric or [])])
    console = Console(stderr=True)
    results: dict[str, Mapping[str, Mapping[str, Measured]]] = {}
    for number, cell in enumerate(cells, start=1):
        console.rule(f"{number} of {len(cells)}: {cell.name}")
        results[cell.name] = _run(cell, out, suite, conditions, console)
    best = front({name: _point(rates, safety, utility, better) for name, rates in results.items()})
    rows = {
        name: {c: {m: _plain(rate) for m, rate in rates.items()} for c, rates in by_condition.items()}
        for name, by_condition in results.items()
    }
    report = {"suite": suite, "safety": safety, "utility": utility, "front": sorted(best), "runs": rows}
    (out / "sweep.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if json_:
        typer.echo(json.dumps(report))
        return
    typer.echo(table(results, metric or list(better), best))


def expand(recipes: Sequence[Path], grid: Sequence[str]) -> Iterator[Cell]:
    """Every recipe with every combination. Raises UsageError for a grid line that is none."""
    axes: list[list[str]] = []
    for line in grid:
        key, equals, values = line.partition("=")
        if not equals or not key or not all(values.split(",")):
            raise UsageError(f"--grid {line!r} is not of the form a.b=x,y,…")
        axes.append([f"{key}={value}" for value in values.split(",")])
    stems = [recipe.stem for recipe in recipes]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UsageError(f"two recipes are called {twice}; runs are named after their recipe")
    for recipe in recipes:
        for settings in itertools.product(*axes):
            yield Cell(recipe, settings)


def _run(
    cell: Cell, out: Path, suite: str, conditions: Mapping[str, tuple[str, ...]], console: Any
) -> Mapping[str, Mapping[str, Measured]]:
    """The rates of one run under every condition."""
    from vlmend.config import load_recipe
    from vlmend.evaluate.run import EvalConfig, evaluate
    from vlmend.train.run import tune

    folder = out / cell.name
    recipe = load_recipe(cell.recipe, [*cell.settings, f"output.dir={str(folder / 'tuned')!r}"])
    tune(recipe, console=console)
    base = recipe.model.name
    model = f"{base}+{folder / 'tuned'}" if recipe.model.tune == "lora" else str(folder / "tuned")
    device = recipe.model.device
    return {
        name: evaluate(
            EvalConfig(model=model, suite=suite, out=folder / name, attack=attack, device=device), quiet=True
        ).metrics
        for name, attack in conditions.items()
    }


def _directions(suite: str, wanted: Sequence[str]) -> dict[str, Better]:
    """Which way each metric of the suite is good. Raises UsageError for one that it does not have."""
    from vlmend.registry import suites

    better = {metric.name: metric.better for metric in suites.from_spec(suite).metrics}
    for name in wanted:
        if name not in better:
            raise UsageError(f"suite {suite} has no metric {name!r}.{nearest(name, better)} It has {', '.join(better)}")
    return better


Point = tuple[float, float] | None  # both the more the better; None where something could not be measured


def _point(
    by_condition: Mapping[str, Mapping[str, Measured]], safety: str, utility: str, better: Mapping[str, Better]
) -> Point:
    """Safety at its worst over all conditions, and ability without an attack; what is unscored counts the bad way."""
    from vlmend.report.tables import worst

    able = worst(by_condition[PLAIN][utility], better[utility])
    safe = [worst(rates[safety], better[safety]) for rates in by_condition.values()]
    if able is None or None in safe:
        return None
    signs = {name: 1.0 if better[name] == "high" else -1.0 for name in (safety, utility)}
    return min(signs[safety] * value for value in safe if value is not None), signs[utility] * able


def front(points: Mapping[str, Point]) -> set[str]:
    """Names that no other is at least as good as in both coordinates and better in one."""
    known = {name: point for name, point in points.items() if point is not None}
    return {
        name
        for name, (safe, able) in known.items()
        if not any(s >= safe and a >= able and (s, a) != (safe, able) for s, a in known.values())
    }


def table(results: Mapping[str, Mapping[str, Mapping[str, Measured]]], metrics: Sequence[str], best: set[str]) -> str:
    """Markdown: one row for each run, one column for each condition and metric it has; * marks the front."""
    conditions = list(next(iter(results.values())))
    columns = [(c, m) for c in conditions for m in metrics]
    lines = [
        f"| run | {' | '.join(m if c == PLAIN else f'{m}, {c}' for c, m in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for name, by_condition in results.items():
        shown = " | ".join(_shown(by_condition[c].get(m)) for c, m in columns)
        lines.append(f"| {name}{' *' if name in best else ''} | {shown} |")
    return "\n".join(lines)


def _shown(rate: Measured | None) -> str:
    """`1.5 % [0.3 to 5.0] 1/66`, and what could not be scored."""
    from vlmend.report.tables import counts, interval, value

    if rate is None or rate.value is None:
        return value(rate)
    unscored = f" ({rate.unscored} unscored)" if rate.unscored and "unscored" not in counts(rate) else ""
    return f"{value(rate)} [{interval(rate)}] {counts(rate)}{unscored}"


def _plain(rate: Measured) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(rate), "value": rate.value}
