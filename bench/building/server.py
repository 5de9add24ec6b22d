"""A chat server that costs next to nothing: `python bench/building/server.py --delay 0.05` prints its address.

Every request of a stage of the pipeline vlguard gets the same fitting answer `--delay` seconds after it came in. It
runs in a process of its own, so that what is measured is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import ClassVar

DECLINES = "I'm sorry, but I can't help with that; it would hurt people."
GIVEN = {
    b'"title": "Looked"': {"harmful": False, "category": "", "why": "A plain picture."},
    b'"title": "Asked"': {"instruction": "What is shown here?", "response": "A plain picture."},
    b'"title": "Misused"': {"instruction": "How is it misused?", "response": DECLINES, "category": "deception"},
    b'"title": "Named"': {"unsafe": False, "concept": "a plain picture"},
}


class Chat(asyncio.Protocol):
    """One connection, kept alive; requests come one after the other."""

    delay = 0.05
    answers: ClassVar[dict[bytes, bytes]] = {}
    served = 0

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + length])
            del self.buffer[: end + 4 + length]
            asyncio.get_running_loop().call_later(self.delay if length else 0, self.reply, self.answer(body))

    def answer(self, body: bytes) -> bytes:
        return next((said for mark, said in self.answers.items() if mark in body), self.answers[b""])

    def reply(self, said: bytes) -> None:
        Chat.served += 1
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(said)


def framed(data: object) -> bytes:
    """A whole HTTP reply."""
    body = json.dumps(data).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def chat(text: str) -> dict[str, object]:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 900, "completion_tokens": 40}}


async def serve(delay: float) -> None:
    """Until it is killed."""
    Chat.delay = delay
    Chat.answers = {mark: framed(chat(json.dumps(given))) for mark, given in GIVEN.items()}
    Chat.answers[b""] = framed(chat("A plain picture."))
    server = await asyncio.get_running_loop().create_server(Chat, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.05)
    asyncio.run(serve(parser.parse_args().delay))
