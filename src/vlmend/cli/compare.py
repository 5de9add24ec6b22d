"""`vlmend compare`: before and after, example by example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vlmend.cli._common import Json, console, print_json
from vlmend.terminal import named, plural, say, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from vlmend.evaluate.compare import Comparison
    from vlmend.metrics.paired import Change, Shift
    from vlmend.types import Outcome

TONES = {"good": "green", "bad": "red", "neutral": ""}
TESTS = (
    "p: McNemar's exact test; sign flips of whole clusters where there are any, and for means. Holm: corrected for all "
    "tests of this comparison."
)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Run folder before.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="Run folder after.", show_default=False)],
    flips: Annotated[int, typer.Option(min=0, help="How many of the examples that changed are shown.")] = 20,
    json_: Json = False,
) -> None:
    """What changed from run A to run B: transitions, paired tests, and the examples that flipped."""
    from vlmend.evaluate.compare import compare as compare_runs
    from vlmend.evaluate.compare import left_out

    found = compare_runs(before, after)
    only = [[str(run.settings().get("suite", run.folder.name)) for run in runs] for runs in left_out(before, after)]
    if json_:
        about = {
            "before": str(before),
            "after": str(after),
            "suites_only_before": only[0],
            "suites_only_after": only[1],
        }
        print_json({**about, "comparisons": [c.to_json() for c in found]})
        return
    out = console()
    for side, names in zip("AB", only, strict=True):
        if names:
            say(out, f"only {side} has {plural(len(names), 'suite')} more: {', '.join(names)}", style="yellow")
    for comparison in found:
        _heading(out, comparison)
        _transitions(out, comparison)
        _tests(out, comparison)
        _flips(out, comparison, flips)


def _heading(out: Console, comparison: Comparison) -> None:
    from rich.text import Text

    from vlmend.report.runs import Told

    paired = comparison.pairing
    both = plural(len(paired.pairs), _noun(comparison))
    out.print(Text(f"suite {Told(comparison.before).suite}: {both} in both runs", style="bold"))
    differing = comparison.differing()
    if "model" in differing:
        differing.pop("fingerprint", None)  # another model has another one, and says less than its name
    for key, before, after in _each(differing):
        out.print(Text(f"  {key}: {before} → {after}"))
    if paired.only_before or paired.only_after or paired.other:
        other = f", {len(paired.other):,} with another question or picture under the same id" if paired.other else ""
        left = f"{len(paired.only_before):,} only in A, {len(paired.only_after):,} only in B{other}"
        out.print(Text(f"  left out: {left}", style="yellow"))


def _noun(comparison: Comparison) -> str:
    """What is counted: examples, or answers where an example has several."""
    pairs = comparison.pairing.pairs
    return "example" if len({two.before.example.id for two in pairs}) == len(pairs) else "answer"


def _each(differing: Mapping[str, tuple[Any, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ; of groups of settings, such as decoding, those alone that differ."""
    for key, (before, after) in differing.items():
        if isinstance(before, dict) and isinstance(after, dict):
            first, second = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
            inside = {k: (first.get(k), second.get(k)) for k in first | second if first.get(k) != second.get(k)}
            yield from ((f"{key}.{name}", *sides) for name, sides in inside.items())
        else:
            yield key, before, after


def _transitions(out: Console, comparison: Comparison) -> None:
    from vlmend.metrics.outcomes import meaning

    made = table("transitions", "before", "after", f"{_noun(comparison)}s", "meaning")
    for (before, after), n in comparison.transitions.items():
        told = meaning(before, after).removeprefix(f"{before.name} → {after.name}").removeprefix(", ")
        made.add_row(_toned(before), _toned(after), f"{n:,}", told)
    out.print(made)


def _toned(outcome: Outcome) -> Text:
    from rich.text import Text

    return Text(outcome.name, style=TONES[outcome.tone])


def _tests(out: Console, comparison: Comparison) -> None:
    from rich.text import Text

    from vlmend.metrics.paired import Change
    from vlmend.report import tables
    from vlmend.types import Mean

    made = table(
        "paired tests", "metric", "before", "after", "change", "95 % interval", "lost / gained", "p", "p (Holm)",
        "unscored",
    )  # fmt: skip
    for c in comparison.changes:
        if isinstance(c, Change):
            like = Mean(c.difference, c.n, c.unscored, c.low, c.high, scale=(-1.0, 1.0))
            before, after, moved = f"{c.k_before}/{c.n}", f"{c.k_after}/{c.n}", f"{c.lost} / {c.gained}"
        else:
            like = Mean(c.difference, c.n, c.unscored, c.low, c.high, scale=c.scale, measured_in=c.measured_in)
            before, after, moved = tables.amount(c.before, like), tables.amount(c.after, like), f"n={c.n}"
        sides = before, after, tables.value(like) + _toward(c), tables.interval(like) or tables.NOTHING
        inside = f" in {plural(c.clusters, 'cluster')}" if 0 < c.clusters < c.n else ""
        mark = f" {tables.MARK}" if c.marked else ""
        made.add_row(named(c.metric + mark), *sides, moved + inside, _p(c.p), _p(c.holm), str(c.unscored))
    made.caption = Text(TESTS)
    out.print(made)
    for why in dict.fromkeys(c.marked for c in comparison.changes if c.marked):
        out.print(Text(f"{tables.MARK} {why}", style="bold yellow"))


def _toward(change: Change | Shift) -> str:
    """Whether a number whose best value lies inside its range came nearer to it."""
    from vlmend.report.tables import best

    nearer = change.nearer
    if nearer is None or isinstance(change.better, str) or change.better is None:
        return ""
    how = "closer to" if nearer > 0 else "farther from" if nearer < 0 else "as far from"
    return f"\n{how} {best(change.better)}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flips(out: Console, comparison: Comparison, limit: int) -> None:
    from rich.text import Text

    from vlmend.metrics.outcomes import meaning

    changed = comparison.flipped
    out.print(Text(f"{plural(len(changed), _noun(comparison))} changed", style="bold"))
    for before, after, two in changed[:limit]:
        out.print(Text(f"{two.before.example.id}: {meaning(before, after)}", style="bold"))
        asked = dict.fromkeys((two.before.example.question, two.after.example.question))
        out.print(Text(f"  question: {' → '.join(asked)}"))
        out.print(Text(f"  before ({before.name}): {two.before.response.text}"))
        out.print(Text(f"  after ({after.name}): {two.after.response.text}"))
    if len(changed) > limit:
        out.print(Text(f"… and {len(changed) - limit} more; --flips N shows them, --json all"))
