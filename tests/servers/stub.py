"""A chat server of our own that misbehaves on demand, on loopback and in this process.

    with Stub(lambda number, body: say("hello")) as stub:
        … openai:tiny@{stub.url} …

`behave` is given the request's number (from 0, in order of arrival) and its body, and returns what happens.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.judge.knowing import known


@dataclass(frozen=True)
class Act:
    """What a request meets. Times in seconds; `cut` sends half of the body and hangs up; `drip` sends it bit by bit."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    drip: float = 0.0


def chat(*choices: dict[str, Any], usage: tuple[int, int] | None = (10, 3), delay: float = 0.0) -> Act:
    """A chat completion with these choices."""
    data: dict[str, Any] = {"object": "chat.completion", "choices": list(choices)}
    if usage:
        data["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Act(body=json.dumps(data).encode(), delay=delay)


def choice(text: Any, finish: Any = "stop", index: int = 0, **message: Any) -> dict[str, Any]:
    return {"index": index, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}


def say(text: str, finish: str = "stop", delay: float = 0.0) -> Act:
    """One answer."""
    return chat(choice(text, finish), delay=delay)


def refuse(status: int, message: str = "no", headers: dict[str, str] | None = None, **error: Any) -> Act:
    """An error in OpenAI's shape."""
    return Act(status, json.dumps({"error": {"message": message, **error}}).encode(), headers or {})


def asked(body: dict[str, Any]) -> str:
    """Text of the last turn."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


def every(body: dict[str, Any]) -> str:
    """Text of all turns."""
    return "\n".join(asked({"messages": [turn]}) for turn in body["messages"])


Behave = Callable[[int, dict[str, Any]], Act]


class Stub:
    """The server, and what it saw: `bodies` and `headers` of chat requests, `most` of them at a time.

    What it `knows`, the controls of judges, it answers right by itself; those are among `controls`.
    """

    def __init__(self, behave: Behave, models: dict[str, str] | None = None, *, knows: bool = True) -> None:
        self.behave, self.models, self.knows = behave, models or {}, knows
        self.controls: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most = self.now = 0
        self.adapters: Callable[[str, dict[str, Any]], Act] | None = None  # what becomes of adapters that are sent
        self.lost_batches = 0  # so many batches are made without the client hearing of it
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_GET(self) -> None:
                stub.send(self, stub.get(self.path))

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers.get("content-length", 0)))
                stub.send(self, stub.post(self.path, data, dict(self.headers.items())))
                stub.left()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, path: str) -> Act:
        page = path.removeprefix("/v1/").partition("?")[0]
        if page == "models" and self.models:
            rows = [{"id": name, "owned_by": owner} for name, owner in self.models.items()]
            return Act(body=json.dumps({"data": rows}).encode())
        if page == "batches":
            return Act(body=json.dumps({"data": list(self.batches.values())}).encode())
        kind, _, rest = page.partition("/")
        if kind == "batches" and rest in self.batches:
            return Act(body=json.dumps(self.batches[rest]).encode())
        if kind == "files" and rest.removesuffix("/content") in self.files:
            return Act(body=self.files[rest.removesuffix("/content")])
        return refuse(404, "no such page")

    def post(self, path: str, data: bytes, headers: dict[str, str]) -> Act:
        page = path.removeprefix("/v1/")
        with self._lock:
            self.now += 1
            body = json.loads(data) if page == "chat/completions" else {}
            control = known(every(body)) if body and self.knows else None
            if control is not None:
                self.controls.append(body)
            elif body:
                number = len(self.bodies)
                self.most = max(self.most, self.now)
                self.bodies.append(body)
                self.headers.append(headers)
                self.times.append(time.monotonic())
        if control is not None:
            return say(control)
        if body:
            return self.behave(number, body)
        if page.endswith("_lora_adapter") and self.adapters:
            return self.adapters(page, json.loads(data))
        if page == "files":
            return self._file(data)
        if page == "batches":
            return self._batch(json.loads(data))
        return refuse(404, "no such page")

    def left(self) -> None:
        with self._lock:
            self.now -= 1

    def _file(self, data: bytes) -> Act:
        name = f"file-{len(self.files)}"
        start = data.index(b"\r\n\r\n", data.index(b'filename="')) + 4
        self.files[name] = data[start : data.index(b"\r\n--", start)]
        return Act(body=json.dumps({"id": name}).encode())

    def _batch(self, request: dict[str, Any]) -> Act:
        """Done at once: every line of the file is answered by `behave`."""
        rows: list[dict[str, Any]] = []
        for line in self.files[request["input_file_id"]].splitlines():
            row = json.loads(line)
            number = len(self.bodies)
            self.bodies.append(row["body"])
            act = self.behave(number, row["body"])
            response = {"status_code": act.status, "body": json.loads(act.body)}
            rows.append({"custom_id": row["custom_id"], "response": response, "error": None})
        name, out = f"batch-{len(self.batches)}", f"out-{len(self.batches)}"
        self.files[out] = "\n".join(map(json.dumps, rows)).encode()
        self.batches[name] = {
            "id": name, "status": "completed", "output_file_id": out, "metadata": request["metadata"],
        }  # fmt: skip
        made = Act(body=json.dumps(self.batches[name]).encode(), cut=self.lost_batches > 0)
        self.lost_batches -= 1
        return made

    def send(self, handler: BaseHTTPRequestHandler, act: Act) -> None:
        time.sleep(act.delay)
        try:
            handler.send_response(act.status)
            for name, value in {"content-length": str(len(act.body)), **act.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            if act.cut:
                handler.wfile.write(act.body[: len(act.body) // 2])
                handler.close_connection = True
            elif act.drip:
                for index in range(len(act.body)):
                    handler.wfile.write(act.body[index : index + 1])
                    handler.wfile.flush()
                    time.sleep(act.drip)
            else:
                handler.wfile.write(act.body)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True
