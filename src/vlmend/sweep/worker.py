"""One run of a sweep: tuned, then asked under every condition. The process that `vlmend.sweep.pool` starts for it.

A job comes as one line of JSON on stdin, which stays open: when it closes, the run stops as after Ctrl-C, so that no
worker outlives the sweep, however that ended. The last line it prints says why it failed, where it did.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from vlmend.config import JudgingConfig
from vlmend.errors import VlmendError
from vlmend.evaluate.cells import Asking, EvalConfig
from vlmend.evaluate.judging import JudgeSettings
from vlmend.store import write_atomic
from vlmend.sweep.grid import Cell, Condition, identity

DONE = "done"  # the file that holds the identity of a finished run
INTERRUPTED = 130


def is_done(cell: Cell, folder: Path, asked: Mapping[str, Condition]) -> bool:
    """Whether this very run has been finished in the folder."""
    path = folder / DONE
    return path.is_file() and path.read_text() == identity(cell, folder, asked)


def carry_out(cell: Cell, folder: Path, asked: Mapping[str, Condition]) -> None:
    """Tune, ask, judge, count; what an earlier try finished is kept."""
    from vlmend.evaluate.run import backend_of, evaluate_together
    from vlmend.train.run import tune

    recipe = cell.load(folder)
    if cell.tuned:
        tune(recipe, console=Console(file=sys.stdout, width=120))
    configs = evaluations(cell, folder, asked)
    evaluate_together(configs, backend_of(configs[0]), configs[0].judging.models())
    write_atomic(folder / DONE, identity(cell, folder, asked).encode())


def evaluations(cell: Cell, folder: Path, asked: Mapping[str, Condition]) -> list[EvalConfig]:
    """How a run's model is asked under every condition; on the device it was tuned on, unless another is named."""
    recipe = cell.load(folder)
    how = {"device": recipe.model.device, **cell.asking.given}
    judging = JudgeSettings.of(recipe.judging)
    return [
        EvalConfig.model_validate({
            "model": tested(cell, folder), "suite": asks.suite, "out": folder / name, "attack": asks.attack,
            "defence": asks.defence, "judges": recipe.judging.judges, "judging": judging, **how,
        })
        for name, asks in asked.items()
    ]  # fmt: skip


def tested(cell: Cell, folder: Path) -> str:
    """The spec of the model that is asked."""
    if not cell.tuned:
        return cell.start
    model, tuned = cell.load(folder).model, folder / "tuned"
    return f"{model.name}+{tuned}" if model.tune == "lora" else str(tuned)


def main() -> int:
    """Do the job on stdin; returns the exit code."""
    import torch

    torch.set_num_threads(1)  # as many processes as cores; and what one thread computes, any number of workers do
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored, as in a script's background
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_at_the_end_of_stdin, daemon=True).start()
    cell = Cell(
        Path(job["recipe"]), tuple(job["settings"]), job["tuned"], JudgingConfig(**job["judging"]),
        Asking(**job["asking"]),
    )  # fmt: skip
    asked = {name: Condition.of(words) for name, words in job["conditions"].items()}
    try:
        carry_out(cell, Path(job["folder"]), asked)
    except KeyboardInterrupt:
        return INTERRUPTED
    except VlmendError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 2
    return 0


def _stop_at_the_end_of_stdin() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
