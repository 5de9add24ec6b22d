"""What a run leaves on disk: append-only journals of JSON lines, and the run folder made of them.

A process killed at any byte leaves a journal that opens, loses at most the line it was writing, and goes on.
Everything is joined by id; nothing here knows the position of a row.

    manifest.json     settings that identify the run, and what made it
    examples.jsonl    what was asked: the example after its attack, and the id of the response it awaits
    responses.jsonl   journal, one row per response id (a later row of the same id wins)
    verdicts.jsonl    journal, one row per judge, response and example (likewise)
    metrics.json      the rates
    images/           pictures that were drawn rather than read from files, by content hash
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from vlmend.errors import DataError, StoreError
from vlmend.types import Example, Expected, Finish, Image, Message, Part, Record, Response, Role, Verdict

try:
    import fcntl
except ImportError:  # Windows has no flock; there a second writer is not noticed
    fcntl = None

Row = dict[str, Any]
K = TypeVar("K")
V = TypeVar("V")


# Journals


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

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row, or, when that fails half-way (a full disk, Ctrl-C), take back what was written of it."""
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        rest = memoryview(line.encode("utf-8", "surrogatepass") + b"\n")
        before = self._file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(before)
            raise _unwritable(self.path, error) from error
        except BaseException:
            self._file.truncate(before)
            raise

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


def read_rows(path: Path) -> list[Row]:
    """The rows of a journal, also while another process writes it; a torn last line is not a row yet.

    Raises StoreError with the line's number when any complete line is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    *complete, _torn = data.split(b"\n")
    return [_parse(line, path, number) for number, line in enumerate(complete, start=1)]


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
    return StoreError(f"{path} cannot be written: {error.strerror or error}")


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


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a whole file or nothing: readers see the old bytes or the new ones.

    `sync` waits for the disk, so that this holds through a power cut too; a killed process needs no such wait.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
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


# Nouns to plain data and back


def response_to_json(response: Response) -> Row:
    """A response as plain data."""
    return asdict(response)


def response_from_json(row: Row) -> Response:
    """Inverse of `response_to_json`."""
    settings: Row = {**_known(row, Response), "finish": Finish(row["finish"])}
    return Response(**settings)


def verdict_to_json(verdict: Verdict, example_id: str) -> Row:
    """A verdict as plain data, with the example it was given for: two examples may share one response."""
    return {"example_id": example_id, **asdict(replace(verdict, labels=dict(verdict.labels)))}


def verdict_from_json(row: Row) -> Verdict:
    """Inverse of `verdict_to_json`, without the example's id."""
    return Verdict(**_known(row, Verdict))


def example_to_json(example: Example) -> Row:
    """An example as plain data; an image is its content hash and, when it is a file, its absolute path."""
    row = {f.name: getattr(example, f.name) for f in fields(Example)}
    prompt = [{"role": m.role, "parts": [_part_to_json(p) for p in m.parts]} for m in example.prompt]
    return {**row, "prompt": prompt, "answers": list(example.answers), "meta": dict(example.meta)}


def example_from_json(row: Row, images: Path | None = None) -> Example:
    """Inverse of `example_to_json`; pictures that are no files are read from the folder `images`."""
    prompt = tuple(
        Message(m["role"], tuple(_part_from_json(part, images) for part in m["parts"])) for m in row["prompt"]
    )
    settings: Row = {
        **_known(row, Example),
        "prompt": prompt,
        "answers": tuple(row["answers"]),
        "expected": Expected(row["expected"]),
        "role": Role(row["role"]),
    }
    return Example(**settings)


def record_to_json(record: Record) -> Row:
    """A record as plain data."""
    return {
        "example": example_to_json(record.example),
        "response": response_to_json(record.response),
        "verdicts": [verdict_to_json(v, record.example.id) for v in record.verdicts],
    }


def record_from_json(row: Row, images: Path | None = None) -> Record:
    """Inverse of `record_to_json`."""
    return Record(
        example_from_json(row["example"], images),
        response_from_json(row["response"]),
        tuple(verdict_from_json(v) for v in row["verdicts"]),
    )


def _known(row: Row, noun: type[Any]) -> Row:
    """The row's keys that are fields of the noun, so that newer files with more keys still open."""
    return {f.name: row[f.name] for f in fields(noun) if f.name in row}


def _part_to_json(part: Part) -> str | Row:
    if not isinstance(part, Image):
        return part
    try:
        sha256 = part.sha256
    except DataError:  # an unreadable picture is still named; asking the model about it says what is wrong
        sha256 = None
    return {"sha256": sha256, "path": str(part.path.absolute()) if part.path else None}


def _part_from_json(part: str | Row, images: Path | None) -> Part:
    if isinstance(part, str):
        return part
    path = Path(part["path"]) if part["path"] else None
    stored = images / f"{part['sha256']}.png" if images else None
    if path and (path.exists() or not (stored and stored.exists())):
        return Image(path=path)
    return Image(make=partial(_stored_picture, stored, part["sha256"] or ""))


def _stored_picture(path: Path | None, sha256: str) -> bytes:
    if path is None:
        raise DataError(f"picture {sha256[:12]} was drawn, and there is no folder to read it from")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"picture {path} cannot be read: {error.strerror}") from error


# Runs


class Asked(NamedTuple):
    """One row of examples.jsonl: the example as it was shown, how it came about, and the response it awaits."""

    example: Example
    response_id: str
    suite: str = ""
    protocol: str = ""
    attack: str = ""


@dataclass(frozen=True)
class Run:
    """A run folder. Reading never writes; writing goes through `claim` and the two journals."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run. Raises StoreError when the folder holds none."""
        run = cls(folder)
        if not run.exists():
            raise StoreError(f"{folder} is not a run folder: it has no manifest.json of an evaluation")
        return run

    def exists(self) -> bool:
        """Whether the folder holds a run, and not, say, a tuned model."""
        return (self.folder / "manifest.json").is_file() and "settings" in self.manifest()

    @property
    def images(self) -> Path:
        """Folder of drawn pictures."""
        return self.folder / "images"

    def manifest(self) -> Row:
        """What made the run."""
        return read_json(self.folder / "manifest.json")

    def settings(self) -> Row:
        """The settings that identify the run."""
        return self.manifest().get("settings", {})

    def claim(self, settings: Row, about: Row) -> None:
        """Make the folder this run's, or check that it is. Raises StoreError naming the settings that differ."""
        wanted = json.loads(json.dumps(settings))
        if (self.folder / "manifest.json").exists():
            there = self.settings()
            if not self.exists():
                raise StoreError(f"{self.folder} holds something else than a run; choose another folder")
            for key in [*wanted, *(k for k in there if k not in wanted)]:
                if there.get(key) != wanted.get(key):
                    raise StoreError(
                        f"{self.folder} holds another run: {key} is {_short(there.get(key))} there,"
                        f" {_short(wanted.get(key))} asked for; choose another folder"
                    )
            return
        write_json(self.folder / "manifest.json", {"settings": wanted, **about})

    def note(self, about: Row) -> None:
        """Add to the manifest, keeping its settings."""
        there = self.manifest()
        if (data := {**there, **about, "settings": there.get("settings", {})}) != there:
            write_json(self.folder / "manifest.json", data)

    def write_asked(self, asked: Sequence[Asked]) -> None:
        """Record what is asked, and keep the pictures that exist nowhere else."""
        lines: list[str] = []
        for item in asked:
            for image in item.example.images:
                self._keep(image)
            row = {**item._asdict(), "example": example_to_json(item.example)}
            lines.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        data = "".join(lines).encode("utf-8", "surrogatepass")
        path = self.folder / "examples.jsonl"
        if not path.exists() or path.read_bytes() != data:
            write_atomic(path, data)

    def _keep(self, image: Image) -> None:
        if image.path is not None:
            return
        try:
            path = self.images / f"{image.sha256}.png"
            if not path.exists():
                write_atomic(path, image.read(), sync=False)  # thousands of them, each of which can be drawn again
        except DataError:
            return  # nothing to keep; the response will say why

    def asked(self) -> list[Asked]:
        """What was asked, in the order of the data set."""
        rows = read_rows(self.folder / "examples.jsonl")
        return [
            Asked(
                example_from_json(r["example"], self.images), r["response_id"], r["suite"], r["protocol"], r["attack"]
            )
            for r in rows
        ]

    def examples(self) -> list[Example]:
        """The examples that were asked, in the order of the data set."""
        return [item.example for item in self.asked()]

    def response_journal(self) -> Journal:
        """The responses, open for writing."""
        return Journal(self.folder / "responses.jsonl")

    def verdict_journal(self) -> Journal:
        """The verdicts, open for writing."""
        return Journal(self.folder / "verdicts.jsonl")

    def responses(self) -> dict[str, Response]:
        """Stored responses by their id."""
        return _read(self.folder / "responses.jsonl", lambda row: (row["id"], response_from_json(row)))

    def verdicts(self) -> dict[tuple[str, str, str], Verdict]:
        """Stored verdicts by example id, response id and judge."""
        return _read(
            self.folder / "verdicts.jsonl",
            lambda row: ((row["example_id"], row["response_id"], row["judge"]), verdict_from_json(row)),
        )

    def records(self) -> list[Record]:
        """One record per example asked. An example without a stored response has a failed one, so none is lost."""
        responses = self.responses()
        verdicts: dict[tuple[str, str], list[Verdict]] = {}
        for (example_id, response_id, _), verdict in self.verdicts().items():
            verdicts.setdefault((example_id, response_id), []).append(verdict)
        return [
            Record(
                item.example,
                _awaited(item, responses),
                tuple(verdicts.get((item.example.id, item.response_id), ())),
            )
            for item in self.asked()
        ]

    def write_metrics(self, data: Row) -> None:
        """Store the rates."""
        write_json(self.folder / "metrics.json", data)

    def metrics(self) -> Row:
        """The stored rates: `metrics` by name, each `{k, n, unscored, value, low, high, worst, summary, better}`."""
        return read_json(self.folder / "metrics.json")


def _awaited(item: Asked, responses: Mapping[str, Response]) -> Response:
    stored = responses.get(item.response_id)
    if stored is None:
        return Response(item.response_id, item.example.id, "", Finish.FAILED, why="no response is stored")
    return replace(stored, example_id=item.example.id)


def _read(path: Path, entry: Callable[[Row], tuple[K, V]]) -> dict[K, V]:
    """A journal as a dictionary; the last row of a key wins."""
    found: dict[K, V] = {}
    for number, row in enumerate(read_rows(path), start=1):
        try:
            key, value = entry(row)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} is damaged in line {number}: {error!r}") from error
        found[key] = value
    return found


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "…"


def find_runs(folder: Path) -> list[Run]:
    """The run in a folder, and those in its subfolders (one per suite). Raises StoreError when there is none."""
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder")
    candidates: Iterable[Path] = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    runs = [run for run in map(Run, candidates) if run.exists()]
    if not runs:
        raise StoreError(f"{folder} holds no run: neither it nor a folder in it has a manifest.json of one")
    return runs
