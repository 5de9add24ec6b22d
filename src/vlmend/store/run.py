"""The run folder: what was asked, what was said, what judges said about it, joined by id and content."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from vlmend.errors import DataError, StoreError
from vlmend.store.files import Journal, Row, read_json, stream_rows, write_atomic, write_json
from vlmend.store.nouns import (
    example_from_json,
    example_to_json,
    judged_key,
    response_from_json,
    text,
    verdict_from_json,
    whole,
)
from vlmend.store.seals import LOST, broken, read_seal, seal_of
from vlmend.types import Example, Finish, Image, Record, Response, Verdict, content_of

V = TypeVar("V")

MANIFEST, EXAMPLES, RESPONSES, VERDICTS, METRICS = (
    "manifest.json", "examples.jsonl", "responses.jsonl", "verdicts.jsonl", "metrics.json",
)  # fmt: skip
REPAIR = {
    EXAMPLES: "restore it, or ask again with the same command: the answers that are there are kept",
    RESPONSES: "restore it, or ask again with the same command: what is lost is asked again",
    VERDICTS: "restore it, or remove it and judge again",
    METRICS: "`vlmend score` writes it anew",
}
EDITED = "the answer, or what is known of its question, is not what was judged; judge again"


class Asked(NamedTuple):
    """One row of examples.jsonl: the example as it was shown, how it came about, and a response it awaits.

    An example that awaits several has a row for each, numbered by `sample`. `content` is the hash of the question
    before any attack: what makes it the same question in another run.
    """

    example: Example
    response_id: str
    suite: str = ""
    protocol: str = ""
    attack: str = ""
    sample: int = 0
    content: str = ""


@dataclass(frozen=True)
class Run:
    """A run folder. Reading never writes; writing goes through `claim` and the two journals.

    The manifest holds a seal of every record file (rows, bytes, hash), and whoever reads one is told when it is not
    what was written: rows are lost, or were changed.
    """

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
        return (self.folder / MANIFEST).is_file() and "settings" in self.manifest()

    @property
    def images(self) -> Path:
        """Folder of drawn pictures."""
        return self.folder / "images"

    def manifest(self) -> Row:
        """What made the run."""
        return read_json(self.folder / MANIFEST)

    def settings(self) -> Row:
        """The settings that identify the run."""
        return self.manifest().get("settings", {})

    def claim(self, settings: Row, about: Row) -> None:
        """Make the folder this run's, or check that it is. Raises StoreError naming the settings that differ.

        `about` is what the manifest says from now on, and is added to its list of `sessions`: what an earlier session
        was made of stays known.
        """
        there = self.refuse_other(settings)
        before = {key: there[key] for key in about if key in there}
        sessions: list[Any] = there.get("sessions", [before] if before else [])
        files = {name: seal for name, seal in there.get("files", {}).items() if name != EXAMPLES}  # is written anew
        data = {**there, **about, "settings": _plain(settings), "sessions": [*sessions, about], "files": files}
        write_json(self.folder / MANIFEST, data)

    def refuse_other(self, settings: Row) -> Row:
        """The manifest that is there, if any. Raises StoreError when the folder holds another run, or no run."""
        if not (self.folder / MANIFEST).exists():
            return {}
        there, wanted = self.manifest(), _plain(settings)
        if "settings" not in there:
            raise StoreError(f"{self.folder} holds something else than a run; choose another folder")
        known: Row = there["settings"]
        for key in [*wanted, *(k for k in known if k not in wanted)]:
            if known.get(key) != wanted.get(key):
                instead = "" if self.outcomes() else "it has no answers yet, so remove it, or "
                raise StoreError(
                    f"{self.folder} holds another run: {key} is {_short(known.get(key))} there,"
                    f" {_short(wanted.get(key))} asked for; {instead}choose another folder"
                )
        return there

    def lost_by(self, asked: Iterable[Asked], answered: Container[str]) -> tuple[int, int]:
        """Of how many answered questions how many would not be asked any more, or would ask something else now."""
        now = {(item.example.id, item.sample): item.content for item in asked}
        there = [item for item in self.asked() if item.response_id in answered]
        keys = (((item.example.id, item.sample), item.content) for item in there)
        return sum(key not in now or content not in ("", now[key]) for key, content in keys), len(there)

    def note(self, about: Row) -> None:
        """Add to the manifest, keeping its settings."""
        there = self.manifest()
        if (data := {**there, **about, "settings": there.get("settings", {})}) != there:
            write_json(self.folder / MANIFEST, data)

    def note_session(self, about: Row) -> None:
        """Add a later stage to the manifest's list of sessions."""
        self.note({"sessions": [*self.manifest().get("sessions", []), about]})

    def seal(self, *names: str) -> None:
        """Note what these record files hold now. Where there is no manifest, nothing is noted."""
        if not (self.folder / MANIFEST).exists():
            return
        found = {name: seal_of(self.folder / name)._asdict() for name in names if (self.folder / name).exists()}
        self.note({"files": {**self.manifest().get("files", {}), **found}})

    def wrong(self, name: str) -> str:
        """In what a record file is not what the manifest says was written; empty where it is."""
        path = self.folder / name
        if not (self.folder / MANIFEST).exists():
            return ""
        seal = read_seal(self.manifest().get("files", {}).get(name))
        told = broken(path, seal) if seal else ""
        if told and name == METRICS:
            told = "was changed since it was written"
        return f"{path} {told}" if told else ""

    def _sound(self, name: str, entry: Callable[[Row], V]) -> Iterator[V]:
        """What the rows of a record file stand for. Raises StoreError when it is not what was written.

        A changed answer is no reason: every verdict knows which answer it is about. Nor is a journal that is gone,
        whose answers or verdicts are missing for all to see.
        """
        path = self.folder / name
        journal = name in (RESPONSES, VERDICTS)
        wrong = "" if journal and not path.exists() else self.wrong(name)
        if wrong and not (name == RESPONSES and LOST not in wrong):
            for _ in _rows(path, entry):  # a row that is none says more
                pass
            raise StoreError(f"{wrong}; {REPAIR[name]}")
        return _rows(path, entry)

    def write_asked(self, asked: Iterable[Asked]) -> None:
        """Record what is asked, and keep the pictures that exist nowhere else."""
        write_atomic(self.folder / EXAMPLES, map(self._line, asked))
        self.seal(EXAMPLES)

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
        return self._sound(EXAMPLES, self._asked)

    def _asked(self, row: Row) -> Asked:
        if not isinstance(row.get("example"), dict):
            raise StoreError("has no 'example' that is an object")
        example = example_from_json(row["example"], self.images)
        texts = {name: text(row, name) for name in ("suite", "protocol", "attack", "content") if name in row}
        sample = whole(row, "sample") if "sample" in row else 0
        item = Asked(example, text(row, "response_id"), sample=sample, **texts)
        known = item.content or item.attack  # older runs did not say what was asked before the attack
        return item if known else item._replace(content=content_of(example.prompt))

    def examples(self) -> list[Example]:
        """The examples that were asked, each once, in the order of the data set."""
        return list({item.example.id: item.example for item in self.asked()}.values())

    def response_journal(self) -> Journal:
        """The responses, open for writing."""
        return Journal(self.folder / RESPONSES)

    def verdict_journal(self) -> Journal:
        """The verdicts, open for writing."""
        return Journal(self.folder / VERDICTS)

    def responses(self) -> dict[str, Response]:
        """Stored responses by their id."""
        return {found.id: found for found in self._sound(RESPONSES, response_from_json)}

    def outcomes(self) -> dict[str, tuple[Finish, str]]:
        """How each stored response ended, and why, by its id: all that is needed to go on, and little to hold.

        What is lost is asked again by who goes on, so that nothing but its rows has to be sound.
        """

        def entry(row: Row) -> tuple[str, tuple[Finish, str]]:
            found = response_from_json(row)
            return found.id, (found.finish, found.why)

        return dict(_rows(self.folder / RESPONSES, entry))

    def verdicts(self) -> dict[tuple[str, str, str], Verdict]:
        """Stored verdicts by example id, response id and judge."""
        return {key: verdict for key, (verdict, _) in self._verdicts().items()}

    def _verdicts(self) -> dict[tuple[str, str, str], tuple[Verdict, str]]:
        """The same, each with the hash of what was judged; empty where that was not noted."""

        def entry(row: Row) -> tuple[tuple[str, str, str], tuple[Verdict, str]]:
            verdict = verdict_from_json(row)
            return (row["example_id"], verdict.response_id, verdict.judge), (verdict, row.get("judged", ""))

        return dict(self._sound(VERDICTS, entry))

    def records(self) -> list[Record]:
        """One record per example and sample asked. What has no stored response has a failed one, so none is lost.

        A verdict on another answer than is stored now, or on one to another question, says nothing of it.
        """
        responses = self.responses()
        verdicts: dict[tuple[str, str], list[tuple[Verdict, str]]] = {}
        for (example_id, response_id, _), found in self._verdicts().items():
            verdicts.setdefault((example_id, response_id), []).append(found)
        return [
            _record(item, _awaited(item, responses), verdicts.get((item.example.id, item.response_id), ()))
            for item in self.asked()
        ]

    def write_metrics(self, data: Row) -> None:
        """Store the rates."""
        write_json(self.folder / METRICS, data)
        self.seal(METRICS)

    def metrics(self) -> Row:
        """The stored rates: `metrics` by name, each `{k, n, unscored, value, low, high, worst, summary, better}`."""
        if wrong := self.wrong(METRICS):
            raise StoreError(f"{wrong}; {REPAIR[METRICS]}")
        return read_json(self.folder / METRICS)

    def stored_metrics(self) -> bytes:
        """The file of rates as it is, to see whether it changes; empty where there is none."""
        path = self.folder / METRICS
        return path.read_bytes() if path.is_file() else b""


def _record(item: Asked, response: Response, given: Sequence[tuple[Verdict, str]]) -> Record:
    key = judged_key(item.example, response) if given else ""
    standing = (
        verdict if judged in ("", key) else Verdict(verdict.judge, verdict.response_id, why=EDITED)
        for verdict, judged in given
    )
    return Record(item.example, response, tuple(standing), item.content)


def _awaited(item: Asked, responses: Mapping[str, Response]) -> Response:
    stored = responses.get(item.response_id)
    if stored is None:
        why = "no response is stored"
        return Response(item.response_id, item.example.id, "", Finish.FAILED, why=why, sample=item.sample)
    return stored if stored.example_id == item.example.id else replace(stored, example_id=item.example.id)


def _rows(path: Path, entry: Callable[[Row], V]) -> Iterator[V]:
    """What each row of a journal stands for. Raises StoreError with file and line for one that is none."""
    for number, row in enumerate(stream_rows(path), start=1):
        try:
            yield entry(row)
        except (StoreError, KeyError, TypeError, ValueError) as error:
            said = str(error) if isinstance(error, StoreError) else repr(error)
            raise StoreError(f"{path} is damaged in line {number}: {said}") from error


def _plain(settings: Row) -> Row:
    """As they come back from a file."""
    return json.loads(json.dumps(settings))


def _short(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 120 else shown[:117] + "…"


def find_runs(folder: Path) -> list[Run]:
    """The run in a folder, and those below it (by suite and attack, maybe by model). Raises StoreError when there is
    none.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder")
    inside = sorted(p for p in folder.iterdir() if p.is_dir())
    candidates = [folder, *(p for one in inside for p in (one, *sorted(q for q in one.iterdir() if q.is_dir())))]
    runs = [run for run in map(Run, candidates) if run.exists()]
    if not runs:
        raise StoreError(f"{folder} holds no run: neither it nor a folder below it has a manifest.json of one")
    return runs
