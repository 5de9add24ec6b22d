"""InternVL in transformers' own classes: pictures in crops, between a start and an end token."""

from dataclasses import dataclass
from typing import Any

from vlmend.models.family import Family, generalized


@dataclass(frozen=True)
class InternVL(Family):
    """No settings."""

    def adapt(self, processor: Any, config: Any) -> Any:
        """The general way of processing, which tells placeholders from users' text. It has no videos."""
        del config
        return generalized(processor, "num_patches")


plugin = InternVL
