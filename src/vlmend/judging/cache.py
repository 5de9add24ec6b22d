"""Replies that were paid for, kept on disk: SQLite with a write-ahead log.

Every reply is stored in a transaction of its own before anyone acts on it, so that a killed process loses none; several
processes may read and write at once. Nothing in it depends on run folders.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmend.errors import StoreError
from vlmend.store import cache_folder

WAIT = 60.0  # seconds for another process's write
MANY = 500  # keys asked for at once


def default_path() -> Path:
    """The file that all runs share."""
    return cache_folder() / "judged.sqlite"


@dataclass(frozen=True)
class Cache:
    """Plain data by key. Raises StoreError with one line when the file cannot be used."""

    path: Path

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
            raise StoreError(
                f"cache of verdicts {self.path} cannot be used ({error}); remove it, or name a folder in $VLMEND_CACHE"
            ) from error
