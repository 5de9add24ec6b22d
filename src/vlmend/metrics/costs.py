"""What answers took: calls of a model, tokens, and seconds, each per answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from vlmend.types import Finish, Record, Response


@dataclass(frozen=True)
class Cost:
    """Means over `n` answers, everything counted that a defence asked on its way.

    An answer that was in store counts as it did when it was given. Seconds are those of the machine that gave it, a
    batch's shared evenly among its answers; they are not to be compared between machines, or batch sizes.
    """

    n: int
    calls: float
    tokens: float
    prompt_tokens: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.calls:.2f} calls, {self.tokens:.1f} tokens, {self.prompt_tokens:.0f} read, {self.seconds:.3f} s"


def cost(records: Iterable[Record]) -> Cost | None:
    """The cost of all answers that did not fail, each once; None where there is none."""
    given: dict[str, Response] = {r.response.id: r.response for r in records}
    there = [r for r in given.values() if r.finish is not Finish.FAILED]
    if not there:
        return None
    return Cost(
        len(there), fmean(r.calls for r in there), fmean(r.tokens for r in there),
        fmean(r.prompt_tokens for r in there), fmean(r.seconds for r in there),
    )  # fmt: skip
