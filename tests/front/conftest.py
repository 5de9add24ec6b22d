"""Models behind defences at a port of this process."""

import http.client
import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from vlmend.evaluate.cells import chain_of
from vlmend.evaluate.defend import chain_from
from vlmend.front.answers import Answers
from vlmend.front.server import Card, Front
from vlmend.judge.models import Models
from vlmend.types import Backend


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.data["choices"][0]["message"]["content"]

    @property
    def error(self) -> str:
        return self.data["error"]["message"]


@contextmanager
def served(backend: Backend, *defences: str, models: Models | None = None, name: str = "tiny") -> Generator[Front]:
    """The backend behind a chain, at a free port until the end of the block."""
    judges = models or Models()
    specs = [spec for text in defences for spec in chain_of(text)]
    front = Front(
        "127.0.0.1", 0, Card(name, "a model", tuple(specs)), Answers(backend, chain_from(specs, judges), judges)
    )
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            front.handle_request()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        ended.set()
        thread.join()
        front.end()


def post(front: Front, body: object, path: str = "/v1/chat/completions", **headers: str) -> Reply:
    """What the server says to a body: JSON, or bytes as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", front.server_port, timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    return Reply(response.status, response.read())


def asking(*content: Any, **more: Any) -> dict[str, Any]:
    """A request of one turn."""
    said = content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)
    return {"model": "tiny", "messages": [{"role": "user", "content": said}], "temperature": 0, **more}


def answers(front: Front, bodies: Sequence[object]) -> list[Reply]:
    """Replies to requests that are sent at once, in their order."""
    found: dict[int, Reply] = {}

    def send(place: int, body: object) -> None:
        found[place] = post(front, body)

    threads = [threading.Thread(target=send, args=item) for item in enumerate(bodies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[place] for place in range(len(bodies))]
