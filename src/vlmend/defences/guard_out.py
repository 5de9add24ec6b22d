"""Have a judge look at the answer, and refuse in its place what it finds harmful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlmend.defences import HARM, REFUSAL, Fails, ask, found_harmful, looked
from vlmend.types import Request, Response, Screening, Talk


@dataclass(frozen=True)
class GuardOut:
    """`guard_out:(JUDGE)`. What the model says nothing to is not looked at.

    `fails`: what becomes of an answer that the judge says nothing of. Refused, as whoever deploys a guard would have
    it, and the answer says why; or it passes.
    """

    judge: str
    fails: Fails = "refuse"
    refusal: str = REFUSAL

    takes_spec = True
    asks = 1
    looks = 1
    reads = HARM

    @property
    def judges(self) -> Sequence[str]:
        """The judge that looks."""
        return (self.judge,)

    def answer(self, request: Request) -> Talk[Response]:
        """The answer, or a refusal."""
        [said] = yield from ask(request)
        if not said.said:
            return said
        verdict = yield from looked(Screening("judge", self.judge, request.prompt, said.text))
        return found_harmful(verdict, self.fails, self.refusal) or said


plugin = GuardOut
