"""What is left is told from the pace that was seen, late rather than wrong."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vlmend.pace import EVERY, MEASURED, WARM, Pace, spelled
from vlmend.train import display
from vlmend.train.display import Display


@pytest.mark.parametrize("first", [0.1, 25.0, 300.0])
@pytest.mark.parametrize("each", [0.5, 7.0, 60.0])
@pytest.mark.parametrize("before", [0, 40])
def test_an_estimate_is_right_wherever_there_is_one(first: float, each: float, before: int) -> None:
    """A slow beginning, and work that was done before this process began, count for nothing."""
    now = [50.0]
    pace = Pace(before, clock=lambda: now[0])
    total = before + 200
    told = 0
    for done in range(before + 1, total + 1):
        now[0] += first if done == before + 1 else each
        left = pace.left(done, total)
        if left is not None:
            assert left == pytest.approx(each * (total - done), abs=1e-6)
            told += 1
    worked = first + 199 * each
    assert told >= (worked - max(first, WARM) - MEASURED - 2 * each) / each
    assert told > 0


def test_nothing_is_estimated_of_what_did_not_move() -> None:
    now = [0.0]
    pace = Pace(3, clock=lambda: now[0])
    for _ in range(10):
        now[0] += WARM + MEASURED
        assert pace.left(3, 10) is None
    assert pace.left(4, 10) is None  # one report is no pace


def test_lines_go_by_time() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    due: list[float] = []
    for tick in range(1000):
        now[0] = tick / 10
        if pace.due():
            due.append(now[0])
    assert due == [EVERY * i for i in range(int(100 / EVERY))]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00 left"), (59.7, "1:00 left"), (3725, "1:02:05 left")])
def test_seconds_are_spelled_as_a_clock_does(seconds: float, text: str) -> None:
    assert spelled(seconds) == text
    assert spelled(None) == ""


def entry(step: int) -> dict[str, object]:
    return {"step": step, "loss": step / 8, "parts": {}, "lr": 1e-3, "tokens_per_second": 10.0}


def test_a_run_is_told_by_time_whatever_its_logging_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow steps between two logging steps have lines of their own, quick ones share one; the last has one."""
    now = [0.0]
    monkeypatch.setattr(display, "Pace", lambda done: Pace(done, clock=lambda: now[0]))
    for seconds, logging, shown in (EVERY, 4, [*range(1, 10)]), (EVERY / 4, 1, [1, 5, 9]):
        out = io.StringIO()
        with Display(Console(file=out, width=200), 9, 0) as told:
            for step in range(1, 10):
                now[0] += seconds
                if step % logging == 0:
                    told.log(entry(step))
                told.step(step, step / 8)
        lines = out.getvalue().splitlines()
        assert [int(line.split()[1].partition("/")[0]) for line in lines] == shown
        assert all(f"loss {step / 8:.4f}" in line for step, line in zip(shown, lines, strict=True))
        assert "left" not in lines[0]
    assert "left" not in "".join(lines)  # too short for an estimate
