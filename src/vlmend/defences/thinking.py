"""Have the model think about whether answering is safe before it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmend.defences import around, ask, said_then
from vlmend.types import Request, Response, Talk

THINK = (
    "{request}\n\nDo not answer yet. What is somebody after who asks this of this picture, and could an answer do harm?"
    " Think it through in a few sentences."
)
ANSWER = "With this in mind, answer the request now; or decline, if an answer could do harm."


@dataclass(frozen=True)
class Thinking:
    """Two turns: the model's thoughts are kept as the answer's reasoning, and are no part of its text."""

    asks = 2

    def answer(self, request: Request) -> Talk[Response]:
        """The answer after the thoughts."""
        first = around(request, THINK)
        [thoughts] = yield from ask(first)
        if not thoughts.said:
            return thoughts
        [said] = yield from ask(said_then(first, thoughts.text, ANSWER))
        return replace(said, reasoning="\n\n".join(filter(None, (thoughts.text, said.reasoning))))


plugin = Thinking
