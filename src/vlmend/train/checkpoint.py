"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

There is no generator state in it: every step seeds itself by (seed, step, rank). Nor is there a position in the data
or the schedule: both follow from the step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from vlmend.errors import StoreError
from vlmend.store import read_json, write_json

PREFIX = "checkpoint-"


@dataclass
class Progress:
    """How far a run is, and what it will say at its next logging step."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float | None = None  # of the last logging step
    enough: str = ""  # why the objective wanted to stop, if it did
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
    part.mkdir(parents=True)
    save_file({name: p.detach().cpu().contiguous() for name, p in weights.items()}, part / "weights.safetensors")
    torch.save(optimizer.state_dict(), part / "optimizer.pt")
    write_json(part / "state.json", {"progress": asdict(progress), "identity": dict(identity)})
    _sync(part)
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return final


def _sync(folder: Path) -> None:
    """Have the operating system put every file on disk, so that the rename never outruns them."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p for p in folder.glob(f"{PREFIX}*") if (p / "state.json").is_file())


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what an earlier kill left half-written."""
    whole = checkpoints(folder)
    for path in [*whole[: max(0, len(whole) - keep)], *folder.glob(f".{PREFIX}*.part")]:
        shutil.rmtree(path)


def restore(checkpoint: Path, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer) -> Progress:
    """Put weights and optimizer back as they were. Raises StoreError when the checkpoint is of another model."""
    saved = load_file(checkpoint / "weights.safetensors")
    if saved.keys() != weights.keys():
        odd = sorted(saved.keys() ^ weights.keys())
        raise StoreError(f"{checkpoint} holds other weights than this model trains: {odd[0]} and {len(odd) - 1} more")
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(saved[name])
    state: dict[str, Any] = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state)
    return Progress(**read_json(checkpoint / "state.json")["progress"])


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


def snapshot(weights: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """A copy on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in weights.items()}


def distance(before: Mapping[str, Tensor], weights: Mapping[str, Parameter]) -> float:
    """Euclidean norm of the change of all weights together."""
    squares = ((p.detach().cpu().double() - before[name].double()).pow(2).sum().item() for name, p in weights.items())
    return sum(squares) ** 0.5
