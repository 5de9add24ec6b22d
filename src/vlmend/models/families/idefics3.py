"""Idefics3: pictures in tiles named by row and column, with line breaks between rows."""

from dataclasses import dataclass
from typing import Any

from vlmend.models.family import Family, generalized


@dataclass(frozen=True)
class Idefics3(Family):
    """No settings."""

    def adapt(self, processor: Any, config: Any) -> Any:
        """The general way of processing, which tells placeholders from users' text."""
        del config
        return generalized(processor, "rows", "cols")


plugin = Idefics3
