"""What `prepare.py` wrote, for tests that run where vlmend is not installed: nothing here imports it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

NAMINGS = ("relative", "absolute", "embed")


def prepared() -> Path:
    """The folder that `make test-peers` prepared; without it, the module's tests are skipped."""
    folder = os.environ.get("VLMEND_PEERS", "")
    if not folder:
        pytest.skip("nothing is prepared for peers: make test-peers", allow_module_level=True)
    return Path(folder)


FOLDER = prepared()
MODEL = str(FOLDER / "qwen2_vl")
KNOWN: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "known.json").read_text())


def written(form: str, naming: str, name: str) -> Path:
    """The file of an export: of a form such as `trl`, or `trl_table` for its parquet."""
    (file,) = (FOLDER / form / naming / name).glob("data.*")
    return file


def pixels(name: str) -> list[float]:
    """All pixels that a set shows, in order."""
    return [value for row in KNOWN[name] for value in row["pixels"] or ()]


def equal(ids: Sequence[int], labels: Sequence[int], row: dict[str, Any], side: str = "", *, break_: int = -1) -> None:
    """The tokens of a row are ours, and those that are learned are, too.

    With `break_`, the peer also learns this token, a line break that the chat template writes behind the end of an
    answer, right after each one that we learn, and no other.
    """
    assert list(ids) == row[f"{side}ids"], row["id"]
    wanted = list(row[f"{side}labels"])
    for at, token in enumerate(ids):
        if token == break_ and at and wanted[at] == -100 and wanted[at - 1] != -100:
            wanted[at] = token
    assert list(labels) == wanted, row["id"]
