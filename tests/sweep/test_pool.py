"""Processes of a sweep: a failure stops no other, Ctrl-C stops all, and none stays behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from vlmend.recipes import FOLDER
from vlmend.sweep import pool
from vlmend.sweep.grid import Cell, Condition
from vlmend.sweep.pool import Finished

ASKED = {"plain": Condition("world")}
STUB = """
import json, os, pathlib, sys, time
job = json.loads(sys.stdin.readline())
folder = pathlib.Path(job["folder"])
(folder / "pid").write_text(str(os.getpid()))
(folder / "job").write_text(json.dumps(job))
do = job["settings"][0].split("=")[1]
if do == "fail":
    print("first line"); print("the reason", file=sys.stderr); sys.exit(2)
if do == "die":
    os.kill(os.getpid(), 9)
if do == "wait":
    sys.stdin.read()
    (folder / "told").touch()
    sys.exit(130)
if do == "deaf":
    time.sleep(60)
began = time.monotonic()
time.sleep(0.4)
(folder / "span").write_text(f"{began} {time.monotonic()}")
"""


@pytest.fixture(autouse=True)
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, str(tmp_path / "stub.py")))


def cells(*todo: str) -> list[Cell]:
    return [Cell(Path("a.yaml"), (f"do={do}", f"n={n}")) for n, do in enumerate(todo)]


def run(out: Path, workers: int, *todo: str) -> list[Finished]:
    told: list[Finished] = []
    pool.carry_out(cells(*todo), out, ASKED, workers, told.append)
    return told


def most_at_a_time(out: Path) -> int:
    spans = [tuple(map(float, path.read_text().split())) for path in out.glob("*/span")]
    return max(sum(a <= begin < b for a, b in spans) for begin, _ in spans)


def test_a_failed_run_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    told = {f.cell.settings[0]: f.why for f in run(tmp_path / "out", 2, "sleep", "fail", "die", "more")}
    assert told["do=sleep"] == told["do=more"] == ""
    assert told["do=fail"].startswith("the reason (see ")
    assert "killed by signal 9" in told["do=die"]


def test_a_job_says_everything(tmp_path: Path) -> None:
    run(tmp_path, 1, "sleep")
    job = json.loads((tmp_path / "a,do=sleep,n=0" / "job").read_text())
    assert job["recipe"] == "a.yaml"
    assert job["settings"] == ["do=sleep", "n=0"]
    assert job["conditions"] == {"plain": ["world"]}


@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_at_a_time(tmp_path: Path, workers: int) -> None:
    assert len(run(tmp_path, workers, *["sleep"] * 4)) == 4
    assert most_at_a_time(tmp_path) == workers


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_stops_all_and_starts_no_more(tmp_path: Path, number: int, error: type[BaseException]) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.glob("*/pid"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    with pytest.raises(error):
        run(tmp_path, 2, "wait", "wait", "sleep")
    assert len(list(tmp_path.glob("*/told"))) == 2
    assert not (tmp_path / "a,do=sleep,n=2").exists()


def test_what_does_not_listen_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.2)

    def interrupt() -> None:
        while not list(tmp_path.glob("*/job")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 1, "deaf")
    with pytest.raises(ProcessLookupError):
        os.kill(int(next(tmp_path.glob("*/pid")).read_text()), 0)


def test_workers_are_bounded_by_memory_and_by_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = FOLDER / "world" / "unlearn_ga.yaml"
    many = [Cell(recipe, (f"train.seed={n}",)) for n in range(64)]
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    for free, workers in ((2**40, 8), (5 * 2**30, 2), (2**20, 1)):
        monkeypatch.setattr(pool, "free_memory", lambda free=free: free)
        assert pool.default_workers(many) == workers
    monkeypatch.setattr(pool, "free_memory", lambda: 2**40)
    assert pool.default_workers(many[:3]) == 3
    assert pool.default_workers([*many, Cell(recipe, ("model.name=owner/somewhere",))]) == 1
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert pool.default_workers(many) == 1
