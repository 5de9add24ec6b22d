"""How much a record file holds, and its hash: what was there is there still, or it is said what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vlmend.errors import StoreError
from vlmend.terminal import plural

CHUNK = 1 << 18
LOST = "lost"


class Seal(NamedTuple):
    """The whole lines of a file: how many, in how many bytes, and the SHA-256 of those bytes."""

    rows: int
    bytes: int
    sha256: str


def seal_of(path: Path, upto: int | None = None) -> Seal:
    """The seal of a file up to its last newline, or of its first `upto` bytes. Nothing, if there is no such file."""
    found, rows, size, torn = hashlib.sha256(), 0, 0, b""
    left = upto
    try:
        with path.open("rb") as file:
            while (left is None or left > 0) and (piece := file.read(CHUNK if left is None else min(CHUNK, left))):
                left = None if left is None else left - len(piece)
                whole, newline, rest = (torn + piece).rpartition(b"\n")
                torn = rest
                found.update(whole + newline)
                rows += whole.count(b"\n") + len(newline)
                size += len(whole) + len(newline)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    return Seal(rows, size, found.hexdigest())


def read_seal(row: object) -> Seal | None:
    """A seal as it stands in a manifest; None for what is none."""
    if not isinstance(row, Mapping):
        return None
    told: Mapping[str, Any] = row
    rows, size, sha256 = told.get("rows"), told.get("bytes"), told.get("sha256")
    if isinstance(rows, int) and isinstance(size, int) and isinstance(sha256, str):
        return Seal(rows, size, sha256)
    return None


def broken(path: Path, seal: Seal) -> str:
    """What is wrong with a file that had this seal; empty where all of it is there, with more behind it or not."""
    if seal_of(path, seal.bytes) == seal:
        return ""
    there = seal_of(path).rows if path.exists() else 0
    if there < seal.rows:
        gone = seal.rows - there
        return f"holds {plural(there, 'row')} of {seal.rows:,} that were written: {gone:,} {_be(gone)} {LOST}"
    return f"was changed since its {plural(seal.rows, 'row')} {'was' if seal.rows == 1 else 'were'} written"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"
