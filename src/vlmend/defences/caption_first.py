"""Have the model put the picture into words, and answer from these words alone."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.defences import ask, captioned, in_words, shows_pictures
from vlmend.types import Request, Response, Talk


@dataclass(frozen=True)
class CaptionFirst:
    """What a model refuses in words it may well do when a picture shows it. A request without pictures stays as it is.

    ECSO's second half, done to every request.
    """

    asks = 2

    def answer(self, request: Request) -> Talk[Response]:
        """The answer to the request with a caption in the place of its pictures."""
        if not shows_pictures(request):
            [said] = yield from ask(request)
            return said
        [caption] = yield from ask(captioned(request))
        [said] = yield from ask(in_words(request, caption.text))
        return said


plugin = CaptionFirst
