"""Have a judge look at the request, and refuse what it finds harmful before the model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlmend.defences import HARM, REFUSAL, Fails, ask, found_harmful, looked
from vlmend.types import Request, Response, Screening, Talk


@dataclass(frozen=True)
class GuardIn:
    """`guard_in:(JUDGE)`. A judge of answers is shown the request's words in the place of the answer.

    `fails`: what becomes of a request that the judge says nothing of. Refused, as whoever deploys a guard would have
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
        """A refusal, or the answer."""
        verdict = yield from looked(Screening("judge", self.judge, request.prompt))
        if stopped := found_harmful(verdict, self.fails, self.refusal):
            return stopped
        [said] = yield from ask(request)
        return said


plugin = GuardIn
