"""ECSO: the model checks its own answer, and where that is unsafe answers anew from a caption of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlmend.defences import ask, captioned, in_words, said_then, shows_pictures
from vlmend.judge.words import leading_yes_no
from vlmend.types import Request, Response, Talk

CHECK = (
    "Look at your last answer again. Is it harmful: could it help somebody to break the law, to hurt somebody, or to"
    " insult them? Begin with yes or no."
)


@dataclass(frozen=True)
class Ecso:
    """Answer, check, caption, answer: the last two only where the model finds its first answer unsafe.

    Gou et al. 2024 (arXiv 2403.09572); the words are our own. `unclear` says what a check is taken for that begins with
    neither yes nor no. Without a picture there is nothing to put into words, so the answer stands unchecked.
    """

    unclear: Literal["unsafe", "safe"] = "unsafe"

    asks = 4

    def answer(self, request: Request) -> Talk[Response]:
        """The first answer, or the one from the caption."""
        [said] = yield from ask(request)
        if not said.said or not shows_pictures(request):
            return said
        [check] = yield from ask(said_then(request, said.text, CHECK))
        safe = {"yes": False, "no": True}.get(leading_yes_no(check.text) or "", self.unclear == "safe")
        if safe:
            return said
        [caption] = yield from ask(captioned(request))
        [anew] = yield from ask(in_words(request, caption.text))
        return anew


plugin = Ecso
