"""The processes of a sweep: so many runs at a time, each in a process of its own, whose failure stops no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vlmend.interrupt import Interrupt
from vlmend.sweep.grid import Cell, Condition
from vlmend.sweep.worker import INTERRUPTED

COMMAND = (sys.executable, "-m", "vlmend.sweep.worker")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
LOG = "log.txt"
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 60.0  # a stopped run finishes its step and writes it down
FLOOR_BYTES = 2 * 2**30  # of one worker, before its weights
COPIES = 4  # of the weights: as they are used, what they were, gradients and room


@dataclass(frozen=True)
class Finished:
    """How a run ended: `why` it failed, empty where it did not."""

    cell: Cell
    seconds: float
    why: str = ""


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[str]
    log: IO[str]
    started: float = field(default_factory=time.monotonic)

    @property
    def stdin(self) -> IO[str]:
        if self.process.stdin is None:
            raise RuntimeError("a worker was started without stdin")
        return self.process.stdin

    def let_go(self) -> None:
        """Close its stdin, upon which it stops."""
        with suppress(BrokenPipeError):
            self.stdin.close()


Told = Callable[[Finished], None]


def carry_out(cells: Sequence[Cell], out: Path, asked: Mapping[str, Condition], workers: int, tell: Told) -> None:
    """Do every run, `workers` at a time, telling of each as it ends.

    SIGINT or SIGTERM stops all of them; what they did is kept. Raises what the signal calls for after that.
    """
    waiting, running = list(cells), list[_Running]()
    with Interrupt() as interrupt:
        try:
            while (waiting or running) and not interrupt.signal:
                while waiting and len(running) < workers:
                    running.append(_start(waiting.pop(0), out, asked))
                time.sleep(POLL_SECONDS)
                for run in [run for run in running if run.process.poll() is not None]:
                    running.remove(run)
                    tell(_finish(run))
        finally:
            _stop(running)
        if interrupt.signal:
            interrupt.leave()


def _start(cell: Cell, out: Path, asked: Mapping[str, Condition]) -> _Running:
    folder = out / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "recipe": str(cell.recipe),
        "settings": cell.settings,
        "tuned": cell.tuned,
        "folder": str(folder),
        "conditions": {name: asks.words for name, asks in asked.items()},
        "judging": cell.judging.given,
        "asking": cell.asking.given,
    }
    log = (folder / LOG).open("a", encoding="utf-8")
    process = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env={**os.environ, **ONE_THREAD},
        start_new_session=True,  # Ctrl-C is for the sweep, which tells its workers
    )  # fmt: skip
    run = _Running(cell, process, log)
    with suppress(BrokenPipeError):  # its exit code will say why it was so short
        run.stdin.write(json.dumps(job) + "\n")
        run.stdin.flush()
    return run


def _finish(run: _Running) -> Finished:
    code = run.process.wait()
    run.let_go()
    run.log.close()
    return Finished(run.cell, time.monotonic() - run.started, _why(code, Path(run.log.name)))


def _why(code: int, log: Path) -> str:
    """What a process says about its failure: the last line of its log, or the signal that killed it."""
    if code == 0:
        return ""
    if code < 0:
        return f"killed by signal {-code}" + (", as for want of memory" if code == -9 else "")
    if code == INTERRUPTED:
        return "interrupted"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1].strip() if lines else f'exit code {code}'} (see {log})"


def _stop(running: Sequence[_Running]) -> None:
    """Tell all to stop by closing their stdin, wait for them, and end by force what does not listen."""
    for run in running:
        run.let_go()
    until = time.monotonic() + PATIENCE_SECONDS
    for run in running:
        try:
            run.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.process.kill()
            run.process.wait()
        run.log.close()


def default_workers(cells: Sequence[Cell]) -> int:
    """One for each core, as far as the free memory goes; one where the weights' size is not known, or on a GPU."""
    import torch

    needs = [_bytes(cell) for cell in cells]
    if torch.accelerator.is_available() or not needs or None in needs:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(need for need in needs if need is not None)
    return max(1, min(cores, len(cells), free_memory() // most))


def _bytes(cell: Cell) -> int | None:
    """What a run may need at its peak; None where the weights are not here."""
    from vlmend.models.places import locate

    folder = Path(locate(cell.load(Path()).model.name))
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")] if folder.is_dir() else []
    return FLOOR_BYTES + COPIES * sum(sizes) if sizes else None


def free_memory() -> int:
    """Bytes that can be had without swapping, as the kernel estimates it; all there are where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
