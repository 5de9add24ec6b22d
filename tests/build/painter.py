"""An image server of our own on loopback: it paints what the prompt's letters give, and misbehaves on demand."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from PIL import Image as Pillow

Reply = tuple[int, dict[str, Any]]


def png_of(prompt: str, seed: int) -> bytes:
    """A picture that depends on both."""
    color = hashlib.sha256(f"{prompt}/{seed}".encode()).digest()[:3]
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), tuple(color)).save(file, "PNG")
    return file.getvalue()


def paints(body: dict[str, Any]) -> Reply:
    data = base64.b64encode(png_of(body["prompt"], body.get("seed", 0))).decode()
    return 200, {"created": 0, "data": [{"b64_json": data}], "usage": {"input_tokens": 5, "output_tokens": 100}}


class Studio:
    """`behave` is given the number of the request and its body; `bodies` and `headers` are what was asked."""

    def __init__(self, behave: Callable[[int, dict[str, Any]], Reply] = lambda _, body: paints(body)) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        lock = threading.Lock()
        studio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    number = len(studio.bodies)
                    studio.bodies.append(body)
                    studio.headers.append(dict(self.headers.items()))
                found = behave(number, body) if self.path == "/v1/images/generations" else (404, {"error": "no page"})
                data = json.dumps(found[1]).encode()
                self.send_response(found[0])
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
