"""Take every picture away and ask the words alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmend.attacks import PLACES
from vlmend.types import Example, Image


@dataclass(frozen=True)
class NoImage:
    """Words stay as they are. A model that never saw a request without a picture may be thrown: see blank_image."""

    changes = PLACES

    def __call__(self, example: Example) -> Example:
        """The example without its pictures."""
        prompt = (replace(m, parts=tuple(p for p in m.parts if not isinstance(p, Image))) for m in example.prompt)
        return replace(example, prompt=tuple(m for m in prompt if m.parts))


plugin = NoImage
