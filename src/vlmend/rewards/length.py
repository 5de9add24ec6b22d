"""Length: so much for every token, as UnsafeConcepts' PPO pays. It is a hack: what is long is not therefore safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vlmend.types import Rollout


@dataclass(frozen=True)
class Length:
    """per_token * tokens, of answers that were cut off too.

    The default is what SaferVLM's code for UnsafeConcepts (arXiv 2507.11155) runs with, 4.0 * tokens / 512. Its safety
    reward lies between 0 and 1, so that beyond 128 tokens length alone is worth more than all safety. It is here so
    that their run can be repeated and the hack seen; `most` ends it, and a negative number makes it a cost.
    """

    per_token: float = 4.0 / 512
    most: Annotated[int, Field(gt=0)] | None = None

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One for each rollout; `most` tokens count at most."""
        counted = [r.tokens if self.most is None else min(r.tokens, self.most) for r in rollouts]
        return [self.per_token * tokens for tokens in counted]


plugin = Length
