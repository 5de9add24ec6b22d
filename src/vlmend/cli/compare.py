"""`vlmend compare`: before and after, example by example."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import Json, percent, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from vlmend.evaluate.compare import Comparison


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Run folder before.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="Run folder after.", show_default=False)],
    flips: Annotated[int, typer.Option(min=0, help="How many of the examples that changed are shown.")] = 20,
    json_: Json = False,
) -> None:
    """What changed from run A to run B: transitions, paired tests, and the examples that flipped."""
    from rich.console import Console

    from vlmend.evaluate.compare import compare as compare_runs

    found = compare_runs(before, after)
    if json_:
        print_json({"before": str(before), "after": str(after), "comparisons": [c.to_json() for c in found]})
        return
    console = Console()
    for comparison in found:
        _heading(console, comparison)
        _transitions(console, comparison)
        _tests(console, comparison)
        _flips(console, comparison, flips)


def _heading(console: Console, comparison: Comparison) -> None:
    from rich.text import Text

    paired = comparison.pairing
    console.print(Text(f"suite {comparison.suite}: {len(paired.pairs)} examples in both runs", style="bold"))
    for key, (before, after) in comparison.differing().items():
        console.print(Text(f"  {key}: {before} → {after}"))
    if paired.only_before or paired.only_after:
        console.print(
            Text(f"  left out: {len(paired.only_before)} only in A, {len(paired.only_after)} only in B", style="yellow")
        )


def _transitions(console: Console, comparison: Comparison) -> None:
    from rich.table import Table

    from vlmend.evaluate.compare import meaning
    from vlmend.metrics.paired import transitions

    table = Table("before", "after", "examples", "meaning", title="transitions", title_justify="left")
    for (before, after), n in transitions(comparison.pairing.pairs).items():
        table.add_row(before, after, str(n), meaning(before, after))
    console.print(table)


def _tests(console: Console, comparison: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "metric", "before", "after", "change (95 % interval)", "lost / gained", "p (McNemar)", "mid-p", "unscored",
        title="paired tests: exact McNemar", title_justify="left",
    )  # fmt: skip
    for c in comparison.changes:
        if not c.n:
            table.add_row(Text(c.metric), "–", "–", "–", "–", "–", "–", str(c.unscored))
            continue
        change = f"{percent(c.difference)} ({percent(c.low)} … {percent(c.high)})"
        counts = (f"{c.k_before}/{c.n}", f"{c.k_after}/{c.n}", change, f"{c.lost} / {c.gained}")
        table.add_row(Text(c.metric), *counts, _p(c.p), _p(c.mid_p), str(c.unscored))
    console.print(table)


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flips(console: Console, comparison: Comparison, limit: int) -> None:
    from rich.text import Text

    from vlmend.evaluate.compare import meaning
    from vlmend.metrics.paired import flipped

    changed = flipped(comparison.pairing.pairs)
    console.print(Text(f"{len(changed)} examples changed", style="bold"))
    for before, after, two in changed[:limit]:
        console.print(Text(f"{two.before.example.id}: {meaning(before, after)}", style="bold"))
        asked = dict.fromkeys((two.before.example.question, two.after.example.question))
        console.print(Text(f"  question: {' → '.join(asked)}"))
        console.print(Text(f"  before ({before}): {two.before.response.text}"))
        console.print(Text(f"  after ({after}): {two.after.response.text}"))
    if len(changed) > limit:
        console.print(Text(f"… and {len(changed) - limit} more; --flips N shows them, --json all"))
