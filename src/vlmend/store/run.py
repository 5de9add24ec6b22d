"""The run folder: what was asked, what was said, what judges said about it, joined by id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from vlmend.errors import DataError, StoreError
from vlmend.store.files import Journal, Row, read_json, stream_rows, write_atomic, write_json
from vlmend.store.nouns import example_from_json, example_to_json, response_from_json, verdict_from_json
from vlmend.types import Example, Finish, Image, Record, Response, Verdict

K = TypeVar("K")
V = TypeVar("V")


class Asked(NamedTuple):
    """One row of examples.jsonl: the example as it was shown, how it came about, and a response it awaits.

    An example that awaits several has a row for each, numbered by `sample`.
    """

    example: Example
    response_id: str
    suite: str = ""
    protocol: str = ""
    attack: str = ""
    sample: int = 0


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
                    instead = "" if self.outcomes() else "it has no answers yet, so remove it, or "
                    raise StoreError(
                        f"{self.folder} holds another run: {key} is {_short(there.get(key))} there,"
                        f" {_short(wanted.get(key))} asked for; {instead}choose another folder"
                    )
            return
        write_json(self.folder / "manifest.json", {"settings": wanted, **about})

    def note(self, about: Row) -> None:
        """Add to the manifest, keeping its settings."""
        there = self.manifest()
        if (data := {**there, **about, "settings": there.get("settings", {})}) != there:
            write_json(self.folder / "manifest.json", data)

    def write_asked(self, asked: Iterable[Asked]) -> None:
        """Record what is asked, and keep the pictures that exist nowhere else."""
        write_atomic(self.folder / "examples.jsonl", map(self._line, asked))

    def _line(self, item: Asked) -> bytes:
        for image in item.example.images:
            self._keep(image)
        row = {**item._asdict(), "example": example_to_json(item.example)}
        return (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "surrogatepass")

    def _keep(self, image: Image) -> None:
        if image.path is not None:
            return
        try:
            path = self.images / f"{image.sha256}.png"
            if not path.exists():
                write_atomic(path, image.read(), sync=False)  # thousands of them, each of which can be drawn again
        except DataError:
            return  # nothing to keep; the response will say why

    def asked(self) -> Iterator[Asked]:
        """What was asked, in the order of the data set, read as it is needed."""
        for row in stream_rows(self.folder / "examples.jsonl"):
            known: Row = {name: row[name] for name in Asked._fields if name in row}
            known["example"] = example_from_json(row["example"], self.images)
            yield Asked(**known)

    def examples(self) -> list[Example]:
        """The examples that were asked, each once, in the order of the data set."""
        return list({item.example.id: item.example for item in self.asked()}.values())

    def response_journal(self) -> Journal:
        """The responses, open for writing."""
        return Journal(self.folder / "responses.jsonl")

    def verdict_journal(self) -> Journal:
        """The verdicts, open for writing."""
        return Journal(self.folder / "verdicts.jsonl")

    def responses(self) -> dict[str, Response]:
        """Stored responses by their id."""
        return _read(self.folder / "responses.jsonl", lambda row: (row["id"], response_from_json(row)))

    def outcomes(self) -> dict[str, tuple[Finish, str]]:
        """How each stored response ended, and why, by its id: all that is needed to go on, and little to hold."""
        return _read(self.folder / "responses.jsonl", lambda row: (row["id"], (Finish(row["finish"]), row["why"])))

    def verdicts(self) -> dict[tuple[str, str, str], Verdict]:
        """Stored verdicts by example id, response id and judge."""
        return _read(
            self.folder / "verdicts.jsonl",
            lambda row: ((row["example_id"], row["response_id"], row["judge"]), verdict_from_json(row)),
        )

    def records(self) -> list[Record]:
        """One record per example and sample asked. What has no stored response has a failed one, so none is lost."""
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
        why = "no response is stored"
        return Response(item.response_id, item.example.id, "", Finish.FAILED, why=why, sample=item.sample)
    return stored if stored.example_id == item.example.id else replace(stored, example_id=item.example.id)


def _read(path: Path, entry: Callable[[Row], tuple[K, V]]) -> dict[K, V]:
    """A journal as a dictionary; the last row of a key wins."""
    found: dict[K, V] = {}
    for number, row in enumerate(stream_rows(path), start=1):
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
