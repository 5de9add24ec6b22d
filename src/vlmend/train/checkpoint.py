"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

There is no generator state in it: every step seeds itself by (seed, step, rank). Nor is there a position in the data
or the schedule: both follow from the step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.nn import Parameter

from vlmend.errors import StoreError
from vlmend.manifest import file_hash
from vlmend.models.weights import read_tensors
from vlmend.store import read_json, write_json

PREFIX = "checkpoint-"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.pt", "state.json"


@dataclass
class Progress:
    """How far a run is, and what it will say at its next logging step."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float | None = None  # of the last logging step
    enough: str = ""  # why the objective wanted to stop, if it did
    scale: float = 1.0  # of the loss while its gradient is taken
    carried: dict[str, float] = field(default_factory=dict[str, float])  # what learning from rollouts takes along
    since_log: dict[str, float] = field(default_factory=dict[str, float])  # sums, to be divided by "steps"


def save_checkpoint(
    folder: Path,
    progress: Progress,
    weights: Mapping[str, Parameter],
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
) -> Path:
    """Write `checkpoint-STEP` under a temporary name, then rename it: a kill leaves it whole or absent."""
    final = folder / f"{PREFIX}{progress.step:08d}"
    part = folder / f".{final.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    with written_whole(part):
        save_file({name: p.detach().cpu().contiguous() for name, p in weights.items()}, part / WEIGHTS)
        torch.save(optimizer.state_dict(), part / OPTIMIZER)
        files = {name: file_hash(part / name) for name in (WEIGHTS, OPTIMIZER)}
        write_json(part / STATE, {"progress": asdict(progress), "identity": dict(identity), "files": files})
        _sync(part)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    return final


@contextmanager
def written_whole(part: Path) -> Generator[None]:
    """Within it a folder of temporary name is filled; where that fails nothing of it stays, so that a full disk is not
    kept full. Raises StoreError that names the folder and the room that is left."""
    part.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        # torch and safetensors have errors of their own for a write that fails
        if isinstance(error, OSError | SafetensorError | StoreError) or "PytorchStreamWriter" in str(error):
            free = shutil.disk_usage(part.parent).free
            reason = " ".join(str(error).split())
            raise StoreError(
                f"{part.parent} cannot be written ({reason}); {free / 1e6:,.0f} MB are free there. What was kept before"
                " stays, and the same command goes on from it"
            ) from error
        raise


def _sync(folder: Path) -> None:
    """Have the operating system put every file on disk, so that the rename never outruns them."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p for p in folder.glob(f"{PREFIX}*") if (p / STATE).is_file())


def step_of(checkpoint: Path) -> int:
    """The step after which it was written."""
    return int(checkpoint.name.removeprefix(PREFIX))


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what an earlier kill left half-written."""
    whole = checkpoints(folder)
    for path in [*whole[: max(0, len(whole) - keep)], *folder.glob(f".{PREFIX}*.part")]:
        shutil.rmtree(path)


def restore(checkpoint: Path, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer) -> Progress:
    """Put weights and optimizer back as they were.

    Raises StoreError when the checkpoint is of another model, or is not what was written.
    """
    state = _intact(checkpoint)
    saved = read_tensors(checkpoint / WEIGHTS)
    if saved.keys() != weights.keys():
        odd = sorted(saved.keys() ^ weights.keys())
        raise StoreError(f"{checkpoint} holds other weights than this model trains: {odd[0]} and {len(odd) - 1} more")
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(saved[name])
    try:
        moments: dict[str, Any] = torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True)
        optimizer.load_state_dict(moments)
        return Progress(**state["progress"])
    except (OSError, EOFError, RuntimeError, UnpicklingError, ValueError, KeyError, TypeError) as error:
        raise StoreError(_damaged(checkpoint, OPTIMIZER)) from error


def _intact(checkpoint: Path) -> dict[str, Any]:
    """The state of a checkpoint whose files are those that were written; older ones do not say which those are."""
    state = read_json(checkpoint / STATE)
    for name, expected in state.get("files", {}).items():
        if not (checkpoint / name).is_file() or file_hash(checkpoint / name) != expected:
            raise StoreError(_damaged(checkpoint, name))
    return state


def _damaged(checkpoint: Path, name: str) -> str:
    before = [kept for kept in checkpoints(checkpoint.parent) if kept < checkpoint]
    rest = f"goes on from {before[-1].name}" if before else "begins anew"
    return f"{checkpoint / name} is not what was written there; remove {checkpoint}, and the run {rest}"


def rewind(log: Path, step: int) -> None:
    """Take back, in place, what was logged after `step`: rows are in order, so the file is only made shorter."""
    lines = log.read_bytes().splitlines(keepends=True)
    os.truncate(log, sum(len(line) for line in lines if json.loads(line)["step"] <= step))


def differences(there: object, here: object, where: str = "") -> list[str]:
    """What differs between two trees of plain data: 'train.seed is 0 there and 1 here', one line each."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = [*there, *(k for k in here if k not in there)]
        return [
            line for k in keys for line in differences(there.get(k), here.get(k), f"{where}.{k}" if where else str(k))
        ]
    return [] if there == here else [f"{where} is {_short(there)} there and {_short(here)} here"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
