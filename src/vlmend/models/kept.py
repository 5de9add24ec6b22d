"""Where vision features are kept: in memory while there is room, or in a folder that processes and runs share."""

from __future__ import annotations

import json
import math
import mmap
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import torch
from torch import Tensor

from vlmend.errors import StoreError
from vlmend.models.plan import say
from vlmend.store import Journal, append_whole

Key = tuple[str, ...]  # content hashes of the pictures of a prompt
Entry = Mapping[str, Tensor]  # what is kept of them, by name
ALIGNED = 64  # bytes


class Kept(Protocol):
    """Entries by key. What was put may be gone."""

    def get(self, key: Key) -> Entry | None:
        """None when it is not there."""
        ...

    def put(self, key: Key, entry: Entry) -> None:
        """Keep an entry, if there is room."""
        ...


def size_of(entry: Entry) -> int:
    """Bytes of an entry's numbers."""
    return sum(tensor.nbytes for tensor in entry.values())


def raw(tensor: Tensor) -> bytes:
    """The numbers of a tensor as they stand in memory."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


class Memory:
    """As they are, where they are; the least recently used go beyond `limit` bytes."""

    def __init__(self, limit: float) -> None:
        self.held = 0
        self._limit = limit
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """It counts as used by that."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: Key, entry: Entry) -> None:
        """Keep an entry in place of one of the same key, and let go of others."""
        if key in self._entries:
            self.held -= size_of(self._entries.pop(key))
        self._entries[key] = entry
        self.held += size_of(entry)
        while self.held > self._limit and self._entries:
            _, gone = self._entries.popitem(last=False)
            self.held -= size_of(gone)


@dataclass(frozen=True)
class _Place:
    """Where an entry stands: a file, a range of its bytes, their checksum, and name, type, shape and start of each
    tensor."""

    file: Path
    start: int
    end: int
    checksum: int
    tensors: tuple[tuple[str, str, tuple[int, ...], int], ...]


class Shelf:
    """In files of a folder that belongs to one `identity`. Each process appends to files of its own and reads all.

    An entry's numbers are written first and its line in the index after them. It is believed when its line is whole and
    the numbers give the checksum that the line says; otherwise it is not there.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / identity[:32]
        self._known: dict[Key, _Place] = {}
        self._read: dict[Path, int] = {}  # bytes of each index that are known
        self._maps: dict[Path, mmap.mmap] = {}
        self._checked: set[Key] = set()
        self._own: tuple[FileIO, Journal] | None = None
        self._full = False
        self._catch_up()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def get(self, key: Key) -> Entry | None:
        """Tensors that are read from the file when they are looked at."""
        if key not in self._known:
            self._catch_up()
        place = self._known.get(key)
        if place is None:
            return None
        data = self._mapped(place)
        if data is None or not (key in self._checked or crc32(data[place.start : place.end]) == place.checksum):
            del self._known[key]
            return None
        self._checked.add(key)
        return {name: _tensor(data, kind, shape, start) for name, kind, shape, start in place.tensors}

    def put(self, key: Key, entry: Entry) -> None:
        """Write an entry. A disk that is full is said once, and then nothing more is written."""
        if self._full or key in self._known:
            return
        try:
            self._write(key, entry)
        except StoreError as error:
            self._full = True
            say(f"no more vision features are kept: {error}")

    def _write(self, key: Key, entry: Entry) -> None:
        if self._own is None:
            self._own = self._opened()
        numbers, index = self._own
        blob = bytearray()
        tensors: list[tuple[str, str, tuple[int, ...], int]] = []
        for name, tensor in entry.items():
            tensors.append((name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), len(blob)))
            blob += raw(tensor)
            blob += bytes(-len(blob) % ALIGNED)
        file = index.path.with_suffix(".bin")
        start = append_whole(numbers, blob, file)
        index.append({"pictures": key, "start": start, "bytes": len(blob), "crc32": crc32(blob), "tensors": tensors})
        self._known[key] = _place(file, start, len(blob), crc32(blob), tensors)

    def _opened(self) -> tuple[FileIO, Journal]:
        index = Journal(self.folder / f"{os.getpid()}-{secrets.token_hex(4)}.jsonl")
        file = index.path.with_suffix(".bin")
        try:
            return FileIO(file, "ab"), index
        except OSError as error:
            raise StoreError(f"{file} cannot be written: {error.strerror}") from error

    def _catch_up(self) -> None:
        """Learn of what was added since."""
        for path in self.folder.glob("*.jsonl"):
            if self._own is not None and path == self._own[1].path:
                continue
            with suppress(OSError), path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    self._learn(path.with_suffix(".bin"), line)

    def _learn(self, file: Path, line: bytes) -> None:
        """What cannot be read is not there, to be computed again."""
        with suppress(ValueError, KeyError, TypeError):
            row: dict[str, Any] = json.loads(line)
            place = _place(file, row["start"], row["bytes"], row["crc32"], row["tensors"])
            self._known.setdefault(tuple(row["pictures"]), place)

    def _mapped(self, place: _Place) -> mmap.mmap | None:
        """The file up to the end of an entry at least; None when it is shorter."""
        found = self._maps.get(place.file)
        if found is None or len(found) < place.end:
            try:
                with place.file.open("rb") as file:
                    found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError):  # not there, or empty
                return None
            self._maps[place.file] = found
        return found if len(found) >= place.end else None


def _place(file: Path, start: int, size: int, checksum: int, tensors: Any) -> _Place:
    named = tuple((name, kind, tuple(shape), start + at) for name, kind, shape, at in tensors)
    return _Place(file, start, start + size, checksum, named)


def _tensor(data: mmap.mmap, kind: str, shape: tuple[int, ...], start: int) -> Tensor:
    return torch.frombuffer(data, dtype=getattr(torch, kind), count=math.prod(shape), offset=start).view(shape)
