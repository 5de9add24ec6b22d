"""Have a judge look at the request, and refuse what it finds harmful before the model is asked."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.defences import Guarding, ask
from vlmend.types import Request, Response, Talk


@dataclass(frozen=True)
class GuardIn(Guarding):
    """`guard_in:(JUDGE)?fails=refuse|pass`. A guard that has a form for requests is asked in it.

    Any other judge of answers is shown the request's words in the place of one.
    """

    def answer(self, request: Request) -> Talk[Response]:
        """A refusal, or the answer."""
        if stopped := (yield from self.stopped(request)):
            return stopped
        [said] = yield from ask(request)
        return said


plugin = GuardIn
