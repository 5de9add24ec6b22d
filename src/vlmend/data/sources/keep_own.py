"""A source whose rows to be answered hold what a model itself thinks and answers: replay that costs it nothing.

Origin and license: those of the source that it is made of; the answers are the model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from vlmend.config import OwnConfig
from vlmend.data.dataset import read
from vlmend.data.notices import notice
from vlmend.data.own import own
from vlmend.errors import ConfigError, UsageError
from vlmend.registry import Spec, backend_for, sources
from vlmend.types import Example


@dataclass(frozen=True)
class KeepOwn:
    """`keep_own:(SPEC)?model=…`: the source's rows with the model's own reasoning and answers, asked once and kept.

    The settings are those of `train.own` in a recipe: `max_new_tokens`, `right`, `wrong`, `safety`, `refused`.
    """

    spec: str
    model: str = ""
    max_new_tokens: int = 1024
    right: str = "judge:exact"
    wrong: str = "drop"
    safety: str = "data"
    refused: str = "judge:refusal"

    takes_spec: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sources.find(Spec.parse(self.spec).name)  # a wrong name is told before anything is read
        if self.wrong not in ("drop", "given"):
            raise ConfigError(f"source 'keep_own': wrong is drop or given (got {self.wrong!r})")
        if self.max_new_tokens < 1:
            raise ConfigError(f"source 'keep_own': max_new_tokens is at least 1 (got {self.max_new_tokens})")

    def __iter__(self) -> Iterator[Example]:
        if not self.model:
            raise UsageError(f"keep_own needs the model whose answers are kept: keep_own:({self.spec})?model=MODEL")
        examples = read(self.spec)
        settings = OwnConfig.model_validate(
            {name: getattr(self, name) for name in ("max_new_tokens", "right", "wrong", "safety", "refused")}
        )
        found = own(examples, backend_for(self.model), settings)
        for line in found.lines():
            notice(f"keep_own:{self.spec}", line)
        yield from found(examples)


plugin = KeepOwn
