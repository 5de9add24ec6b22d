"""Adapters of a server that runs: put there and taken away again, as vLLM lets one do."""

from __future__ import annotations

from pathlib import Path

import httpx

from vlmend.errors import ModelError
from vlmend.servers.address import Address, access, nobody
from vlmend.servers.chat import error_text

SECONDS = 120.0


def load_adapter(address: Address, key: str, folder: Path) -> None:
    """Have the server load the adapter in `folder`, which it has to see too, under the address's name.

    One of that name that it has already is replaced. Raises ModelError for what it does not take.
    """
    unload_adapter(address, key)
    body = {"lora_name": address.name, "lora_path": str(folder.absolute())}
    response = _ask(address, key, "load_lora_adapter", body)
    if response.status_code in (404, 405):
        raise ModelError(
            f"{address.url} takes no adapters while it runs; `vlmend serve MODEL --lora-rank RANK` starts one that does"
        )
    if response.status_code != 200:
        raise ModelError(f"{address.url} does not take the adapter in {folder}: {_said(response)}")


def unload_adapter(address: Address, key: str) -> None:
    """Have the server forget the adapter of that name; nothing where it knows none."""
    _ask(address, key, "unload_lora_adapter", {"lora_name": address.name})


def _ask(address: Address, key: str, what: str, body: dict[str, str]) -> httpx.Response:
    try:
        return httpx.post(f"{address.url}/{what}", json=body, timeout=SECONDS, **access(address, key))
    except httpx.HTTPError as error:
        raise ModelError(f"{address.url}: {nobody(error)}") from error


def _said(response: httpx.Response) -> str:
    try:
        return error_text(response.json())
    except ValueError:
        return f"HTTP {response.status_code}"
