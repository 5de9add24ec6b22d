"""What a person sees of a run: tables before it and a progress line while it lasts. On stderr, never stdout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from vlmend.models.parts import Trainable
from vlmend.pace import Pace, spelled
from vlmend.terminal import plural, say, table
from vlmend.train.mask_report import MaskReport


def show_mask(console: Console, report: MaskReport) -> None:
    """The mask report as a small table."""
    made = table(f"mask of the first {report.examples} examples", "tokens", "count", "share", "supervised")
    for kind, count, supervised in report.rows():
        made.add_row(kind, f"{count:,}", f"{100 * count / max(1, report.tokens):.1f} %", f"{supervised:,}")
    console.print(made)
    span = f"first supervised span: {escape(repr(report.first_answer[:200]))}"
    console.print(span if report.supervised else "answers are the model's own", highlight=False)
    for note, count in report.wording.items():
        say(console, f"{note} ({plural(count, 'example')})", style="yellow")


def show_trainable(console: Console, trainable: Trainable) -> None:
    """What trains, with counts by part of the model."""
    made = table("what trains", "part", "trained", "parameters")
    for part, trained, total in trainable.rows():
        made.add_row(part, f"{trained:,}", f"{total:,}")
    console.print(made)


TOLD = ("cost", "cut", "dead", "kl", "length", "unscored")  # of rollouts, beside every reward


class Display:
    """A live bar in a terminal, a plain line every ten seconds elsewhere, nothing in processes but the first."""

    def __init__(self, console: Console, total: int, done: int, *, quiet: bool = False) -> None:
        self._console, self._quiet, self._total = console, quiet, total
        self._pace, self._says = Pace(done), ""
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[says]}"))
        self._bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self._task: TaskID = self._bar.add_task("step", total=total, completed=done, says="")

    def log(self, entry: Mapping[str, Any]) -> None:
        """A logging step: what is shown from now on."""
        self._says = line(entry)

    def step(self, step: int, loss: float) -> None:
        """One more step is done, and what was logged of it; the loss stands in where nothing was."""
        shown = "  ".join(filter(None, (self._says or f"loss {loss:.4f}", spelled(self._pace.left(step, self._total)))))
        self._bar.update(self._task, completed=step, says=shown)
        if not self._quiet and not self._console.is_terminal and (self._pace.due() or step == self._total):
            self._console.print(f"step {step}/{self._total}  {shown}", highlight=False, soft_wrap=True)
            self._says = ""

    def say(self, text: str) -> None:
        """One line for the reader."""
        if not self._quiet:
            say(self._console, text)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def line(entry: Mapping[str, Any]) -> str:
    """A log entry in one line: the loss, its parts when there are several, the rate and the speed."""
    parts: Mapping[str, float] = entry["parts"]
    shown: Iterable[str] = [f"{name} {value:.4f}" for name, value in parts.items()] if len(parts) > 1 else []
    rollouts: Mapping[str, float] = entry.get("rollouts", {})
    told = [f"{name} {value:.3g}" for name, value in rollouts.items() if name in TOLD or name.startswith("reward")]
    speed = f"{entry['tokens_per_second']:,.0f} tokens/s"
    return "  ".join([*told, f"loss {entry['loss']:.4f}", *shown, f"lr {entry['lr']:.2e}", speed])
