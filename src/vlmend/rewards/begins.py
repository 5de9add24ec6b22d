"""Begins: 1 for an answer with given first words, else 0. A bandit, to see whether a policy learns at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlmend.errors import ConfigError
from vlmend.types import Rollout


@dataclass(frozen=True)
class Begins:
    """`begins:TEXT`: whatever the request, without regard to case and to white space around."""

    words: str

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise ConfigError("reward 'begins' needs words: every answer begins with none")

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One for each rollout."""
        wanted = self.words.strip().casefold()
        return [float(r.text.strip().casefold().startswith(wanted)) for r in rollouts]


plugin = Begins
