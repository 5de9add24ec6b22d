"""Replies that were paid for, kept on disk: SQLite with a write-ahead log.

Every reply is stored in a transaction of its own before anyone acts on it, so that a killed process loses none; several
processes may read and write at once, and claim what they are about to ask, so that none asks what another one is
asking. Nothing in it depends on run folders.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

from vlmend.errors import StoreError
from vlmend.store.files import cache_folder, full_disk
from vlmend.types import digest

try:
    import fcntl
except ImportError:  # Windows has no record locks; there two processes may ask the same
    fcntl = None

WAIT = 60.0  # seconds for another process's write
MANY = 500  # keys asked for at once
_OPEN: dict[Path, FileIO] = {}  # never closed: a process that closes a file loses all its locks on it


def default_path() -> Path:
    """The file that all runs share."""
    return cache_folder() / "judged.sqlite"


@dataclass(frozen=True)
class Cache:
    """Plain data by key. Raises StoreError with one line, which says `what` it is, when it cannot be used."""

    path: Path
    what: str = "cache of verdicts"

    @cached_property
    def _database(self) -> sqlite3.Connection:
        with self._said_plainly():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("CREATE TABLE IF NOT EXISTS judged (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        return database

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """What is known of these keys."""
        found: dict[str, Any] = {}
        database = self._database
        with self._said_plainly():
            for start in range(0, len(keys), MANY):
                some = keys[start : start + MANY]
                marks = ",".join("?" * len(some))
                found.update(database.execute(f"SELECT key, value FROM judged WHERE key IN ({marks})", some))
        return {key: json.loads(value) for key, value in found.items()}

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Store for good. What is known already stays."""
        text = json.dumps(value, separators=(",", ":"))  # escaped, so that lone surrogates are no trouble
        database = self._database
        with self._said_plainly():
            database.execute("INSERT OR IGNORE INTO judged VALUES (?, ?)", (key, text))

    def forget(self, keys: Sequence[str]) -> None:
        """Remove what turned out to be of no use."""
        database = self._database
        with self._said_plainly():
            database.executemany("DELETE FROM judged WHERE key = ?", [(key,) for key in keys])

    def claim(self, key: str) -> bool:
        """Whether it is for this process to ask this; no other one is told so until it is released.

        A claim is a lock on one byte of a file, so the operating system releases those of a process that dies.
        """
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True  # some network file systems have no locks, a full disk no room for the file: go on without
        return True

    def release(self, keys: Sequence[str]) -> None:
        """Give claims back, whatever came of them."""
        if fcntl is None:
            return
        for key in keys:
            with suppress(OSError):
                fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _place(key))

    @property
    def _claims(self) -> FileIO:
        path = self.path.with_name(f"{self.path.name}-claims").absolute()
        if path not in _OPEN:
            path.parent.mkdir(parents=True, exist_ok=True)
            _OPEN[path] = path.open("a+b", buffering=0)
        return _OPEN[path]

    def close(self) -> None:
        """Give the file back."""
        if "_database" in self.__dict__:
            self._database.close()
            del self.__dict__["_database"]

    @contextmanager
    def _said_plainly(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            remedy = full_disk(self.path, error) or "remove it, or name a folder in $VLMEND_CACHE"
            raise StoreError(f"{self.what} {self.path} cannot be used ({error}); {remedy}") from error


def _place(key: str) -> int:
    """The byte that stands for a key: one of 2^60, so that two keys share none."""
    return int(digest(key)[:15], 16)
