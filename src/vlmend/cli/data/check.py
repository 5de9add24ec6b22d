"""`vlmend data check`: what is wrong with a data set, what leaks into another one, and a cleaned copy."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.terminal import plural

if TYPE_CHECKING:
    from vlmend.data.check import Checked
    from vlmend.data.checks.finding import Finding
    from vlmend.data.clean import Cleaned

PATIENCE = 2.0  # seconds before anything is said, and between one line and the next
SHOWN = 5  # ids of each kind
COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
Kinds = list[str] | None


def check(
    source: Annotated[str, typer.Argument(help="A source, e.g. vlguard:data/VLGuard#train or jsonl:rows.jsonl.")],
    against: Annotated[str, typer.Option(help="Another source: report what SOURCE shares with it.")] = "",
    fix: Annotated[
        Path | None, typer.Option(help="Write a cleaned copy (.jsonl) and, beside it, a log of what was dropped.")
    ] = None,
    ignore: Annotated[Kinds, typer.Option(help="A kind of finding to leave out; repeat for more.")] = None,
    drop: Annotated[Kinds, typer.Option(help="A kind that --fix drops, too; repeat for more.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every id.")] = False,
) -> None:
    """Look for defects in SOURCE; exit with 1 where there are errors. Works where the pictures are absent."""
    from vlmend.data import clean
    from vlmend.data.check import check, known_kinds
    from vlmend.judge.refusals.opening import ruling

    known_kinds([*(ignore or ()), *(drop or ())])
    if fix is not None:
        clean.refuse(fix)
    checked = check(source, lambda text: ruling(text).refused, against=against, tell=_Progress()).without(ignore or ())
    cleaned = clean.write(checked, fix, also=drop or ()) if fix is not None else None
    if json_:
        typer.echo(json.dumps({**checked.to_json(), "fixed": cleaned.to_json() if cleaned else None}))
    else:
        _print(checked)
        if cleaned:
            _say_where(cleaned)
    if checked.count("error"):
        raise typer.Exit(1)


class _Progress:
    """Says on stderr how many pictures were looked at, once that takes longer than a moment."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told > PATIENCE and done < total:
            self._told = now
            left = (now - self._started) / done * (total - done)
            typer.echo(f"pictures: {done:,}/{total:,}, {left:.0f} s left", err=True)


def _print(checked: Checked) -> None:
    found = {name: checked.count(name) for name in ("error", "warning", "note")}
    counts = ", ".join(plural(count, name) for name, count in found.items())
    typer.echo(f"{checked.spec}: {plural(len(checked.items), 'example')}; kinds of findings: {counts}")
    for finding in checked.findings:
        typer.echo(_line(finding))
        if finding.ids:
            typer.echo(f"    {_ids(finding)}")


def _line(finding: Finding) -> str:
    severity = typer.style(finding.severity, fg=COLORS[finding.severity], bold=True)
    return f"{severity} {finding.kind}: {finding.message}"


def _ids(finding: Finding) -> str:
    more = len(finding.ids) - SHOWN
    text = "  ".join(finding.ids[:SHOWN]) + (f"  … and {more:,} more" if more > 0 else "")
    return text.encode("utf-8", "replace").decode()


def _say_where(cleaned: Cleaned) -> None:
    told = f"{cleaned.kept:,} examples written to {cleaned.file}" if cleaned.kept else "nothing is left to write"
    typer.echo(f"{told}; {cleaned.dropped:,} dropped, see {cleaned.log}")
    if cleaned.outside:
        typer.echo(f"its pictures lie outside of its folder; read it as '{cleaned.spec}'")
