"""What a server does that its kind does not tell, found out once by asking: control tokens in text, JSON schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from vlmend.servers.address import Address, access
from vlmend.servers.schemas import SCHEMA_WAYS

CONTROL = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|endoftext|>", "<|end|>")
COPIES = 4  # of each, so that a token that merges with its neighbors is not taken for one of its own
SECONDS = 30.0

PROBE: dict[str, Any] = {
    "type": "object", "properties": {"kept": {"enum": ["yes"]}}, "required": ["kept"], "additionalProperties": False,
}  # fmt: skip


@dataclass(frozen=True)
class Asker:
    """Asks a server a few short things, one after the other. What fails is no answer, never an error."""

    address: Address
    key: str

    @property
    def root(self) -> str:
        """The server's address without its version: what lies beside the API."""
        return self.address.url.removesuffix("/v1")

    def post(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that comes back; an empty one where none does."""
        try:
            response = httpx.post(
                url, json={"model": self.address.name, **body}, timeout=SECONDS, **access(self.address, self.key)
            )
            found: Any = response.json() if response.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def chat(self, text: str, tokens: int, **more: Any) -> dict[str, Any]:
        """A chat completion of one question."""
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0, **more}
        return self.post(f"{self.address.url}/chat/completions", body)

    def counted(self, text: str, *, tokenizes: bool) -> int:
        """Tokens of a prompt: by the server's own `/tokenize` where it has one, else as it charges; 0: unknown."""
        if tokenizes:
            body = {"messages": [{"role": "user", "content": text}]}
            found = self.post(f"{self.root}/tokenize", body).get("count")
        else:
            usage = self.chat(text, 1).get("usage")
            found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return found if isinstance(found, int) else 0


def control_tokens(asker: Asker, *, tokenizes: bool) -> str:
    """What to say of control tokens in user text: a text that spells one is counted with and without it."""

    def count(text: str) -> int:
        return asker.counted(text, tokenizes=tokenizes)

    plain, longer = count("a b"), count("a b c d e f g h")
    if not plain or longer <= plain:
        return (
            "what the server does with control tokens in user text could not be measured: it does not say how long"
            " prompts are"
        )
    added = {token: found - plain for token in CONTROL if (found := count(f"a{token * COPIES} b"))}
    kept = [token for token, more in added.items() if more == COPIES]
    gone = [token for token, more in added.items() if more <= 0]
    if kept:
        return (
            f"control tokens in user text stay control tokens at this server ({', '.join(kept)}): a request can end or"
            " open turns of its own, as it cannot with a local model"
        )
    if gone:
        return f"the server takes control tokens out of user text ({', '.join(gone)})"
    if not added:
        return "the server refuses user text with control tokens"
    return f"control tokens in user text: none of {', '.join(added)} was read as one"


def schema_way(asker: Asker) -> str:
    """How the server wants a JSON schema: the first name under which it keeps one; empty where it keeps none."""
    for name, write in SCHEMA_WAYS.items():
        try:
            text: Any = asker.chat("Say hello.", 40, **write(PROBE))["choices"][0]["message"]["content"]
            if json.loads(text) == {"kept": "yes"}:
                return name
        except (KeyError, IndexError, TypeError, ValueError, RecursionError):
            continue
    return ""
