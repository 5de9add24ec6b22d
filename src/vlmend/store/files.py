"""Files that survive being killed: journals of JSON lines, and whole files written at once or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vlmend.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows has no flock; there a second writer is not noticed
    fcntl = None

Row = dict[str, Any]
LITTLE = 100_000  # bytes free below which a write fails for want of room, whatever the error says


def cache_folder() -> Path:
    """Where things are kept between runs: $VLMEND_CACHE, or a folder of the user's cache."""
    named = os.environ.get("VLMEND_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmend"


class Journal:
    """An append-only file of JSON objects, one per line, with one writer at a time.

    Opening takes an exclusive lock and cuts off a torn last line. Every row is handed to the operating system before
    `append` returns, so that it outlives this process whatever happens to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _lock(self._file, path)
            _cut_torn_line(self._file)
        except BaseException:
            self._file.close()
            raise

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Write rows, or, when that fails half-way (a full disk, Ctrl-C), take back what was written of them."""
        lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n" for row in rows]
        append_whole(self._file, "".join(lines).encode("utf-8", "surrogatepass"), self.path)

    def rows(self) -> list[Row]:
        """Every row so far."""
        return read_rows(self.path)

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def append_whole(file: FileIO, data: bytes | bytearray, path: Path) -> int:
    """Write at the end of an unbuffered file, all or nothing unless the process is killed. Returns where it begins."""
    before, rest = file.seek(0, os.SEEK_END), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        file.truncate(before)
        raise _unwritable(path, error) from error
    except BaseException:
        file.truncate(before)
        raise
    return before


def room_for(folder: Path, what: str) -> int:
    """Bytes free where a folder is or would be made. Raises StoreError when nothing can be written there."""
    there_is = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there_is.is_dir() or not os.access(there_is, os.W_OK):
        raise StoreError(f"{what} {folder} cannot be written: {there_is} is no folder that may be written to")
    return shutil.disk_usage(there_is).free


def read_rows(path: Path) -> list[Row]:
    """`stream_rows`, all at once."""
    return list(stream_rows(path))


def stream_rows(path: Path) -> Iterator[Row]:
    """The rows of a journal one by one, also while another process writes it; a torn last line is not a row yet.

    Raises StoreError with the line's number when any complete line is damaged.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _parse(line, path, number)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


def _parse(line: bytes, path: Path, number: int) -> Row:
    try:
        row = json.loads(line.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged in line {number}: not JSON; restore or remove that line") from error
    if not isinstance(row, dict):
        raise StoreError(f"{path} is damaged in line {number}: not a JSON object; restore or remove that line")
    return row


def _lock(file: FileIO, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"{path} is being written by another process; wait for it or choose another folder") from error
    except OSError:
        return  # some network file systems have no locks: go on without


def _unwritable(path: Path, error: OSError) -> StoreError:
    reason = f"{path} cannot be written: {error.strerror or error}"
    return StoreError(f"{reason}; {told}" if (told := full_disk(path, error)) else reason)


def full_disk(path: Path, error: Exception) -> str:
    """Which disk has no room for a file that could not be written, in words; empty where that was not the reason."""
    there = next(place for place in path.absolute().parents if place.exists())
    disk = shutil.disk_usage(there)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "is full" in str(error)
    if not full and (disk.free >= LITTLE or not disk.total):
        return ""
    mount = next(place for place in (there, *there.parents) if place.is_mount())
    return (
        f"the disk at {mount} is full ({disk.free / 1e6:,.1f} MB free): make room and run the same command again; what"
        " was stored stays"
    )


def _cut_torn_line(file: FileIO) -> None:
    """Shorten the file to its last newline."""
    end = file.seek(0, os.SEEK_END)
    position = end
    while position > 0:
        step = min(65536, position)
        file.seek(position - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            position = position - step + newline + 1
            break
        position -= step
    if position != end:
        file.truncate(position)
    file.seek(0, os.SEEK_END)


def write_atomic(path: Path, data: bytes | Iterable[bytes], *, sync: bool = True) -> None:
    """Write a whole file, maybe piece by piece, or nothing: readers see the old bytes or the new ones.

    `sync` waits for the disk, so that this holds through a power cut too; a killed process needs no such wait.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def remove_stale(folder: Path) -> None:
    """Remove what `write_atomic` left half-written in a folder when its process was killed.

    For whoever holds the folder's lock. A part belongs to a process by the number in its name; that of one that still
    runs on this machine stays.
    """
    for part in folder.glob(".*.part"):
        number = part.name.split(".")[-2]
        if part.is_file() and number.isdigit() and not _runs(int(number)):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()


def write_json(path: Path, data: object) -> None:
    """Write plain data as indented JSON, whole or not at all."""
    text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_atomic(path, text.encode("utf-8", "surrogatepass"))


def read_json(path: Path) -> Row:
    """A JSON object from a file. Raises StoreError when it is missing or no object."""
    try:
        data = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path} is not JSON") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path} does not hold a JSON object")
    return data
