"""Where a server is, what kind it is, and the key for it, which comes from the environment and stays out of sight."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpx

from vlmend.errors import ConfigError, ModelError
from vlmend.money import LOOPBACK
from vlmend.servers.chat import Kind

OPENAI = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
OWNERS: dict[str, Kind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "vlmend": "vlmend"}


@dataclass(frozen=True)
class Address:
    """A model's name on a server and the server's base URL."""

    name: str
    url: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """`NAME@URL`, or `NAME` for the OpenAI API. Never repeats a password that stands in a URL."""
        match = re.fullmatch(r"(?P<name>.+?)(?:@(?P<url>https?://.*))?", text)
        if match is None:
            raise ModelError("openai: no model is named; the form is openai:NAME@URL")
        url = (match["url"] or OPENAI).rstrip("/")
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise ModelError("openai: keys do not belong into a URL; name an environment variable with key_env=NAME")
        if not parts.hostname:
            raise ModelError(f"openai: {url!r} is no address; the form is openai:NAME@http://HOST:PORT/v1")
        return cls(match["name"], url)

    @property
    def host(self) -> str:
        """The machine's name."""
        return urlsplit(self.url).hostname or ""

    @property
    def here(self) -> bool:
        """Whether the server is on this machine."""
        return self.host in LOOPBACK


def check_variable(name: str) -> None:
    """Raise ModelError for what cannot be a variable's name, without repeating it: it may be a key itself."""
    if name and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ModelError("openai: key_env names an environment variable, such as OPENAI_API_KEY; keys go nowhere else")


def key_of(address: Address, key_env: str) -> str:
    """The key, or nothing. OPENAI_API_KEY goes to OpenAI only; any other server gets the key that `key_env` names.

    Raises ModelError when the variable is not set.
    """
    name = key_env or (OPENAI_KEY if address.host == OPENAI_HOST else "")
    key = os.environ.get(name, "").strip() if name else ""
    if name and not key:
        raise ModelError(f"openai: {address.host} wants a key, and the environment variable {name} is not set")
    return key


def access(address: Address, key: str) -> dict[str, Any]:
    """What every request to a server is made with: the key, and whether a proxy may stand between."""
    return {
        "headers": {"authorization": f"Bearer {key}"} if key else {},
        "trust_env": not address.here,  # a proxy has no way to this machine's own loopback
    }


def extra_of(text: str, ours: Collection[str]) -> dict[str, Any]:
    """The option `extra`: a JSON object that is added to every request. Raises ConfigError for keys that are ours."""
    try:
        extra = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError(f"extra is not JSON: {text!r}") from error
    if not isinstance(extra, dict) or any(key in ours for key in extra):
        raise ConfigError(f"extra is a JSON object without {', '.join(ours)}, not {text!r}")
    return extra


class Connections:
    """Connections to one server, as many as are in use at once, each a client of its own.

    httpx looks through all connections of a client at every request, so that sixty-four of one client cost twelve times
    as much as sixty-four clients. Redirects are not followed, so that a key goes nowhere else.
    """

    def __init__(self, address: Address, key: str, seconds: float) -> None:
        self._access, self._seconds = access(address, key), seconds
        self._free: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=self._access["trust_env"])

    async def post(self, url: str, content: bytes) -> httpx.Response:
        """The whole reply to a JSON body, over the connection that was used last. Raises what httpx does."""
        client = self._free.pop() if self._free else self._new()
        try:
            return await client.post(url, content=content, headers={"content-type": "application/json"})
        finally:
            self._free.append(client)

    def _new(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            verify=self._context,
            **self._access,
            timeout=httpx.Timeout(self._seconds, connect=min(10.0, self._seconds), pool=None),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )
        self._all.append(client)
        return client

    async def aclose(self) -> None:
        """Close all of them."""
        for client in self._all:
            await client.aclose()


def nobody(error: httpx.HTTPError) -> str:
    """What is said wherever a server cannot be reached."""
    return f"no server answers there ({error})"


def models(address: Address, key: str) -> list[dict[str, Any]]:
    """The models that a server lists; none where it has no such list. Raises ModelError when nobody answers there."""
    try:
        response = httpx.get(f"{address.url}/models", timeout=10.0, **access(address, key))
        rows: Any = response.json()["data"] if response.status_code == 200 else []
        return [row for row in rows if isinstance(row, dict)]
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ModelError(f"{address.name} at {address.url}: {nobody(error)}") from error
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return []


def kind_of(address: Address, key: str) -> Kind:
    """OpenAI by its name; others by who owns the models they list; `plain` where that says nothing."""
    if address.host == OPENAI_HOST:
        return "openai"
    owners = {str(row.get("owned_by")) for row in models(address, key)}
    for owner, kind in OWNERS.items():
        if owner in owners:
            return kind
    return "plain"
