"""A whole sweep: what is not done yet is done, then everything is counted, compared, drawn and written down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vlmend.manifest import environment
from vlmend.report.tables import relative
from vlmend.store import read_json, write_atomic, write_json
from vlmend.sweep import pool, results
from vlmend.sweep.front import Axes, front, short, split
from vlmend.sweep.grid import Cell, Condition
from vlmend.sweep.pool import Finished
from vlmend.sweep.worker import is_done
from vlmend.terminal import plural, say

SUMMARY = "sweep.json"


@dataclass(frozen=True)
class Report:
    """What a sweep found. `failed` names the runs that are in no row, and why."""

    rows: tuple[results.Row, ...]
    best: frozenset[str]
    failed: Mapping[str, str]
    axes: Axes
    asked: Mapping[str, Condition]

    def to_json(self) -> dict[str, Any]:
        """As plain data: conditions, rows with every rate, the front, and what failed."""
        return {
            "conditions": {
                name: {
                    "suite": c.suite,
                    "attack": list(c.attack),
                    **({"defence": list(c.defence)} if c.defence else {}),
                }
                for name, c in self.asked.items()
            },
            "safety": self.axes.safety,
            "utility": self.axes.utility,
            "front": [row.name for row in self.rows if row.name in self.best],
            "rows": {row.name: row.to_json() for row in self.rows},
            "failed": dict(self.failed),
        }

    def picture(self) -> bytes | None:
        """The front as a PNG; None where no row has both measures."""
        from vlmend.report.scatter import Axis, picture

        points = {row.name: point for row in self.rows if (point := self.axes.point(row.found))}
        if not points:
            return None
        names = short(list(points))
        safe, able = self.axes.signs
        where = ", ".join(dict.fromkeys(c for row in self.rows for c in self.axes.conditions(row.found)))
        return picture(
            {names[name]: (ability, safety) for name, (safety, ability) in points.items()},
            {names[name] for name in self.best},
            Axis(self.axes.title(self.axes.utility), able < 0, self._relative(self.axes.utility)),
            Axis(
                f"{self.axes.title(self.axes.safety)} (worst of: {where})", safe < 0, self._relative(self.axes.safety)
            ),
            "Better is up and to the right. The line joins what nothing beats in both.",
        )

    def _relative(self, name: str) -> bool:
        return all(
            relative(row.found[condition][split(name)[1]])
            for row in self.rows
            for condition in self.axes.conditions(row.found, name)
        )


@dataclass(frozen=True)
class Sweep:
    """What is to be done: runs, how each tuned model is asked, which settings share a row, and the front's axes."""

    cells: tuple[Cell, ...]
    out: Path
    asked: Mapping[str, Condition]
    pool: tuple[str, ...]
    axes: Axes
    workers: int | None = None

    def run(self, console: Console) -> Report:
        """Do what is not done yet, then count everything; writes `sweep.json` and `front.png`."""
        failed = self._carry_out(console)
        rows = results.read(self.cells, failed, self.out, self.asked, self.pool)
        best = front({row.name: self.axes.point(row.found) for row in rows}, self.axes.signs)
        report = Report(tuple(rows), frozenset(best), failed, self.axes, self.asked)
        self._tell_left_out(report, console)
        write_json(self.out / SUMMARY, {**report.to_json(), "environment": environment()})
        if picture := report.picture():
            write_atomic(self.out / "front.png", picture)
        return report

    def _tell_left_out(self, report: Report, console: Console) -> None:
        """Say which rows an earlier sweep in this folder had and this one has not; their runs stay where they are."""
        if not (self.out / SUMMARY).exists():
            return
        gone = [name for name in read_json(self.out / SUMMARY).get("rows", {}) if name not in report.to_json()["rows"]]
        if gone:
            more = f" and {len(gone) - 1:,} more" if len(gone) > 1 else ""
            say(console, f"{self.out / SUMMARY} had a row {gone[0]}{more}, not in this sweep and no longer in the file")

    def open(self) -> list[Cell]:
        """The runs that are not finished, in the order in which they will be done."""
        return [cell for cell in self._in_turn() if not is_done(cell, self.out / cell.name, self.asked)]

    def _in_turn(self) -> list[Cell]:
        """The first run of each row, then the second, and so on: a sweep that is cut short says something of all."""
        seen: Counter[str] = Counter()
        turns: list[tuple[int, Cell]] = []
        for cell in self.cells:
            row = cell.without(self.pool)
            turns.append((seen[row], cell))
            seen[row] += 1
        return [cell for _, cell in sorted(turns, key=lambda turn: turn[0])]

    def _carry_out(self, console: Console) -> dict[str, str]:
        """Every run that is not finished. Returns why runs failed, by name."""
        open_ = self.open()
        done, failed = len(self.cells) - len(open_), dict[str, str]()
        if done:
            say(console, f"{done} of {len(self.cells)} runs are done already")
        if not open_:
            return failed
        workers = self.workers or pool.default_workers(open_)
        say(console, f"{plural(len(open_), 'run')}, {min(workers, len(open_))} at a time")
        started, ended = time.monotonic(), 0

        def tell(finished: Finished) -> None:
            nonlocal ended
            ended += 1
            if finished.why:
                failed[finished.cell.name] = finished.why
            left = (time.monotonic() - started) / ended * (len(open_) - ended)
            how = f"failed: {finished.why}" if finished.why else f"{finished.seconds:.0f} s"
            say(console, f"[{ended}/{len(open_)}] {finished.cell.name}: {how}; {_clock(left)} left")

        pool.carry_out(open_, self.out, self.asked, workers, tell)
        return failed


def _clock(seconds: float) -> str:
    """`1:05:09`, `12:34`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
