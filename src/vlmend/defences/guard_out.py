"""Have a judge look at the answer, and refuse in its place what it finds harmful."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.defences import Guarding, ask
from vlmend.types import Request, Response, Talk


@dataclass(frozen=True)
class GuardOut(Guarding):
    """`guard_out:(JUDGE)?fails=refuse|pass`. Where the model says nothing there is nothing to look at."""

    def answer(self, request: Request) -> Talk[Response]:
        """The answer, or a refusal."""
        [said] = yield from ask(request)
        if not said.said:
            return said
        return (yield from self.stopped(request, said.text)) or said


plugin = GuardOut
