"""Tuning in processes of their own. One server imports everything once and forks them, which takes no time."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from rich.console import Console

from tests.train.rolling import letters
from vlmend.config import Recipe
from vlmend.rewards.begins import Begins
from vlmend.train.run import tune


def start(recipe: Recipe, shown: Path, **variables: str) -> BaseProcess:
    """Tune in a new process with these environment variables; what it shows goes to a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.worker", "transformers.models.llava.modeling_llava"])
    process = context.Process(target=_work, args=(recipe, shown, variables))
    process.start()
    return process


def _work(recipe: Recipe, shown: Path, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    torch.set_num_threads(1)
    Begins.__call__ = letters  # pyright: ignore[reportAttributeAccessIssue]
    with shown.open("w") as file:
        try:
            tune(recipe, console=Console(file=file, width=160))
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception:
            traceback.print_exc(file=file)
            raise
