"""Provider batches as OpenAI has them: upload a file of requests, wait, fetch. Half the price, up to a day.

What was submitted is written down before and after, so that a killed run finds its batches again and neither loses
nor pays anything twice. The state of a batch is kept until its last answer was taken.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx

from vlmend.errors import DataError, ModelError
from vlmend.servers.address import nobody
from vlmend.servers.ledger import Account, Costed
from vlmend.servers.outcome import Again, Answered, Refused, outcome
from vlmend.servers.pace import retry_after
from vlmend.store import read_json, write_json

LOG = logging.getLogger("vlmend.servers")
MOST_REQUESTS = 50_000  # of one file, as OpenAI has it
MOST_BYTES = 190_000_000  # of one file; OpenAI takes 200 MB
ENDED = ("completed", "failed", "expired", "cancelled")
MARK = "vlmend"  # metadata key by which a batch is found again
J = TypeVar("J", bound=Costed)


@dataclass(frozen=True)
class Provider:
    """A batch API. What fails for a while is tried again for `patience` seconds."""

    url: str
    key: str
    patience: float
    backoff: float

    def get(self, path: str) -> Any:
        """A JSON object."""
        return self._call("GET", path).json()

    def content(self, file_id: str) -> list[Any]:
        """The rows of a file."""
        return [json.loads(line) for line in self._call("GET", f"files/{file_id}/content").text.splitlines() if line]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What comes back is a JSON object."""
        return self._call("POST", path, json=body).json()

    def upload(self, data: bytes) -> str:
        """Id of the file."""
        files = {"file": ("requests.jsonl", data, "application/jsonl")}
        return self._call("POST", "files", data={"purpose": "batch"}, files=files).json()["id"]

    def _call(
        self, method: str, path: str, *, json: Any = None, data: dict[str, str] | None = None, files: Any = None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        until = time.monotonic() + self.patience
        pause = self.backoff
        while True:
            why, wait = "", None
            try:
                found = httpx.request(
                    method, f"{self.url}/{path}", headers=headers, json=json, data=data, files=files, timeout=300
                )
            except httpx.ConnectError as error:
                why = nobody(error)
            except httpx.TransportError as error:
                why = f"the connection broke off: {error}"
                if path == "batches" and method == "POST":
                    raise ModelError(f"{why} while a batch was asked for; run again, it will be looked for") from error
            else:
                if found.status_code == 200:
                    return found
                verdict = outcome(found.status_code, found.headers, found.content, 0.0)
                why = "" if isinstance(verdict, Answered) else verdict.why
                if not isinstance(verdict, Again):
                    raise ModelError(f"batch API, {method} {path}: {why}")
                wait = retry_after(found.headers)
            pause = min(60.0, 2 * pause)
            if time.monotonic() + (wait or pause) > until:
                raise ModelError(f"batch API, {method} {path}: {why}")
            time.sleep(wait or pause)


class Batches(Generic[J]):
    """Runs jobs as batches. One state file per batch lies in `folder`."""

    def __init__(self, provider: Provider, folder: Path, account: Account, *, poll: float) -> None:
        self._provider, self._folder, self._account, self._poll = provider, folder, account, poll

    def run(
        self, jobs: Iterator[J], name_of: Callable[[J], str], body_of: Callable[[J], bytes]
    ) -> Iterator[tuple[J, Answered | Refused]]:
        """Each job once. `body_of` makes a job's request, or raises DataError."""
        by_name: dict[str, J] = {}
        submitted = {name for path in self._states() for name in read_json(path)["names"]}
        chunk: list[tuple[str, bytes]] = []
        size = 0
        spent = False
        for job in jobs:
            name = name_of(job)
            if name in submitted:
                by_name[name] = job
                continue
            try:
                row = _row(name, body_of(job))
            except DataError as error:
                yield job, Refused(str(error), sent=False)
                continue
            if not self._account.reserve(job):
                spent = True
                break
            by_name[name] = job
            if chunk and (len(chunk) >= MOST_REQUESTS or size + len(row) > MOST_BYTES):
                self._prepare(chunk)
                chunk, size = [], 0
            chunk.append((name, row))
            size += len(row)
        if chunk:
            self._prepare(chunk)
        yield from self._collect(by_name)
        if spent:
            raise self._account.spent()

    def _states(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    def _prepare(self, chunk: list[tuple[str, bytes]]) -> None:
        """Upload, write down, submit, write down."""
        mark = uuid.uuid4().hex
        file_id = self._provider.upload(b"".join(row for _, row in chunk))
        path = self._folder / f"{mark}.json"
        write_json(path, {"mark": mark, "file": file_id, "batch": "", "names": [name for name, _ in chunk]})
        self._submit(path)

    def _submit(self, path: Path) -> str:
        """The batch of a state: the one it names, one at the provider that bears its mark, or a new one."""
        state = read_json(path)
        if state["batch"]:
            return state["batch"]
        found = self._marked(state["mark"]) or self._provider.post(
            "batches",
            {
                "input_file_id": state["file"],
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": {MARK: state["mark"]},
            },
        )
        write_json(path, {**state, "batch": found["id"]})
        return found["id"]

    def _marked(self, mark: str) -> Any:
        after = ""
        while True:
            page = self._provider.get(f"batches?limit=100{after}")
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(MARK) == mark:
                    return batch
            if not page.get("has_more") or not page["data"]:
                return None
            after = f"&after={page['data'][-1]['id']}"

    def _collect(self, by_name: dict[str, J]) -> Iterator[tuple[J, Answered | Refused]]:
        """Wait for every batch that has something for these jobs, and take it."""
        open_ = [path for path in self._states() if not by_name.keys().isdisjoint(read_json(path)["names"])]
        for path in open_:
            self._submit(path)
        while open_:
            for path in list(open_):
                batch = self._provider.get(f"batches/{self._submit(path)}")
                if batch.get("status") in ENDED:
                    yield from self._take(batch, [n for n in read_json(path)["names"] if n in by_name], by_name)
                    path.unlink()
                    open_.remove(path)
            if open_:
                LOG.info("%d batches under way", len(open_))
                time.sleep(self._poll)

    def _take(
        self, batch: dict[str, Any], names: list[str], by_name: dict[str, J]
    ) -> Iterator[tuple[J, Answered | Refused]]:
        rows: dict[str, Any] = {}
        for file_id in filter(None, (batch.get("error_file_id"), batch.get("output_file_id"))):
            rows |= {str(row.get("custom_id")): row for row in self._provider.content(file_id)}
        errors = (batch.get("errors") or {}).get("data") or [{}]
        missing = f"the batch {batch.get('status')} without an answer to this {errors[0].get('message') or ''}".strip()
        for name in names:
            found = _read(rows[name]) if name in rows else Refused(missing, sent=False)
            self._account.settle(by_name[name], found)
            yield by_name[name], found


def _row(name: str, body: bytes) -> bytes:
    head = json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions"})
    return head[:-1].encode() + b', "body": ' + body + b"}\n"


def _read(row: dict[str, Any]) -> Answered | Refused:
    response = row.get("response") or {}
    if not response:
        return Refused(f"batch: {(row.get('error') or {}).get('message') or 'no response'}")
    content = json.dumps(response.get("body")).encode()
    found = outcome(int(response.get("status_code") or 0), {}, content, 0.0)
    return Refused(found.why) if isinstance(found, Again) else found
