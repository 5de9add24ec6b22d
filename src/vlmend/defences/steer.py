"""Steer the model where it reads harm, by a direction that `vlmend steer fit` found on a few examples."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlmend.defences import ask
from vlmend.errors import ConfigError, DataError, UsageError
from vlmend.manifest import file_hash
from vlmend.types import Backend, Changeable, Request, Response, Talk, digest


@dataclass(frozen=True)
class Steer:
    """`steer:DIR?strength=1&how=closed|add&layer=N`. A negative strength subtracts.

    `closed` moves only what it reads as harmful and leaves the fitted harmless examples where they are; `add` moves all
    alike, as activation addition does (Turner et al. 2023, arXiv 2308.10248). Layer -1 is the one where the examples
    lie farthest apart. Only for models that transformers loads here; `vlmend steer export` writes weights for others.
    """

    folder: Path
    strength: float = 1.0
    how: Literal["closed", "add"] = "closed"
    layer: int = -1

    asks = 1

    @property
    def content(self) -> str:
        """Hash of the direction."""
        try:
            return file_hash(self.folder / "steering.safetensors")
        except DataError as error:
            raise ConfigError(f"defence 'steer': {self.folder} holds no steering of `vlmend steer fit`") from error

    def over(self, backend: Backend) -> Backend:
        """The model, steered while it answers."""
        if not isinstance(backend, Changeable):
            raise UsageError(
                "defence steer changes a model that runs here; for others write one with `vlmend steer export`"
            )
        from vlmend.models import steering

        found = steering.read(self.folder)
        layer = steering.checked_layer(found, self.layer)

        def during(loaded: Any) -> AbstractContextManager[None]:
            steering.refuse_other(found, loaded.base)
            return steering.steered(loaded.model, found, layer, self.strength, self.how)

        return backend.changed(digest("steer", self.content, layer, self.strength, self.how), during)

    def answer(self, request: Request) -> Talk[Response]:
        """The steered model's answer."""
        [said] = yield from ask(request)
        return said


plugin = Steer
