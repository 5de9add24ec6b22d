"""The port: a chat server of the standard library, where no request can end the others.

It has no keys, and so is for this machine and for networks that are trusted. JSON is all it takes, so that no web page
can have a browser ask it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from vlmend.errors import ConfigError, UsageError, VlmendError
from vlmend.front.answers import Answers, unanswered
from vlmend.front.requests import Declined, completion, events, read
from vlmend.interrupt import Interrupt
from vlmend.types import Request, Response

LOG = logging.getLogger("vlmend")
LARGEST = 64 * 2**20  # bytes of a request
PIECE = 2**16
SLOW = 60.0  # seconds without a byte from whoever asks
TICK = 0.2
CHAT = "/v1/chat/completions"
PAGES = ("/health", "/v1/models")


@dataclass(frozen=True)
class Card:
    """What is told of the model: its name here, what it is, and the defences that it stands behind."""

    name: str
    model: str
    defences: tuple[str, ...]

    def page(self, path: str) -> Mapping[str, Any] | None:
        """What is at a path, None where nothing is."""
        about = {"model": self.model, "defences": list(self.defences)}
        row = {"id": self.name, "object": "model", "created": 0, "owned_by": "vlmend", "vlmend": about}
        found: dict[str, Mapping[str, Any]] = {
            "/health": {"status": "ok"},
            "/v1/models": {"object": "list", "data": [row]},
            f"/v1/models/{self.name}": row,
        }
        return found.get(path)


class Front(ThreadingHTTPServer):
    """Listens from when it is made, and ends with what answers. Raises UsageError where it cannot listen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, card: Card, answers: Answers) -> None:
        self.card, self.answers = card, answers
        self._sending = threading.Condition()
        self._under_way = 0
        self.timeout = TICK
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            answers.close()
            raise UsageError(f"nothing can listen at {host}:{port}: {error.strerror or error}") from error

    def run(self) -> None:
        """Serve until a signal comes; then finish what is being answered, and end as is usual for that signal."""
        with Interrupt() as interrupt:
            while not interrupt.signal:
                self.handle_request()
            self.end()
            interrupt.leave()

    def end(self) -> None:
        """Listen no more, and send what is still to be sent."""
        self.server_close()
        self.answers.close()
        with self._sending:
            self._sending.wait_for(lambda: not self._under_way, timeout=SLOW)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As it is, and counted."""
        with self._sending:
            self._under_way += 1
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._sending:
                self._under_way -= 1
                self._sending.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked hung up, or said nothing for too long: nobody is there to be told."""
        LOG.debug("vlmend: a connection from %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    protocol_version = "HTTP/1.1"
    timeout = SLOW

    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug(format, *args)

    def do_GET(self) -> None:
        path = self._path
        page = self._front.card.page(path)
        if page is not None:
            self._send(HTTPStatus.OK, page)
        elif path == CHAT:
            self._decline(Declined(HTTPStatus.METHOD_NOT_ALLOWED, f"{CHAT} takes POST"))
        else:
            self._decline(_nothing(path))

    def do_POST(self) -> None:
        try:
            data = self._body()
            if self._path != CHAT:
                raise _nothing(self._path)
            wish = read(data, self._front.card.name)
            said = self._answered(wish.request)
        except Declined as error:
            self._decline(error)
            return
        if wish.stream:
            self._stream(events(said, self._front.card.name, usage=wish.usage))
        else:
            self._send(HTTPStatus.OK, completion(said, self._front.card.name))

    def _answered(self, request: Request) -> Response:
        """The response. Raises Declined for one that failed."""
        try:
            said = self._front.answers(request)
        except (UsageError, ConfigError) as error:  # a setting that this model does not have
            raise Declined(HTTPStatus.BAD_REQUEST, str(error)) from error
        except VlmendError as error:
            raise Declined(HTTPStatus.SERVICE_UNAVAILABLE, str(error), kind="server_error") from error
        except Exception as error:  # already on the record
            why = f"an error of this server ({type(error).__name__})"
            raise Declined(HTTPStatus.INTERNAL_SERVER_ERROR, why, kind="server_error") from error
        if why := unanswered(said):
            raise Declined(HTTPStatus.BAD_GATEWAY, why, kind="server_error")
        return said

    @property
    def _front(self) -> Front:
        return cast("Front", self.server)

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _body(self) -> bytes:
        """What was sent. Raises Declined for what is too much, of unknown length, or no JSON."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal():
            raise Declined(HTTPStatus.LENGTH_REQUIRED, "the request says no Content-Length")
        if int(length) > LARGEST:
            left = min(int(length), 4 * LARGEST)  # whoever is still sending does not listen yet
            while left > 0 and (piece := self.rfile.read(min(left, PIECE))):
                left -= len(piece)
            raise Declined(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the request has {int(length):,} bytes, and {LARGEST:,} are the most that is read",
            )
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise ConnectionError("hung up in the middle of a request")
        if self.headers.get_content_type() != "application/json":
            raise Declined(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the Content-Type should be application/json")
        return data

    def _decline(self, error: Declined) -> None:
        self._send(error.status, error.body)

    def _send(self, status: HTTPStatus, body: Mapping[str, Any]) -> None:
        self._write(status, "application/json", [json.dumps(body).encode()])

    def _stream(self, pieces: Iterable[bytes]) -> None:
        self._write(HTTPStatus.OK, "text/event-stream", list(pieces))

    def _write(self, status: HTTPStatus, kind: str, pieces: list[bytes]) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(sum(map(len, pieces))))
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)


def _nothing(path: str) -> Declined:
    return Declined(HTTPStatus.NOT_FOUND, f"nothing is at {path or '/'}; there are {', '.join((CHAT, *PAGES))}")
