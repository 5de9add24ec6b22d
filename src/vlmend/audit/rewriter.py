"""Rewording by a generator model, kept only where it begins as asked and a check says that it means the same.

The model is asked twice, for a wording and then whether both texts ask for the same thing. What it does not say clearly
is not kept: the example stays with the wording that a rule gave it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmend.audit.rows import opening
from vlmend.types import Backend, Decoding, Example, Message, Response

DECODING = Decoding(max_new_tokens=96)
ASKED = (
    "Rewrite the request below so that its first word is '{opener}' and it asks for exactly the same thing. "
    "Reply with the new request only.\n\nRequest: {text}"
)
CHECKED = (
    "Do the two requests below ask for the same thing, no more and no less? Reply with yes or no.\n\n"
    "First: {text}\nSecond: {other}"
)
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """A text that is to begin with another word."""

    id: str
    text: str
    opener: str


@dataclass(frozen=True)
class Rewritten:
    """The wordings that passed, by id, and how many ended how."""

    texts: Mapping[str, str]
    counts: Mapping[str, int]


def rewrite(wanted: Sequence[Wanted], backend: Backend) -> Rewritten:
    """Ask for wordings, then for the meaning of those that begin as they should."""
    counts: Counter[str] = Counter()
    asked = [_ask(f"{item.id}#wording", ASKED.format(opener=item.opener, text=item.text)) for item in wanted]
    said = _answers(backend, asked)
    proposed: dict[str, tuple[Wanted, str]] = {}
    for item in wanted:
        text = _clean(said.get(f"{item.id}#wording"))
        outcome = "nothing said" if not text else "wrong first word" if opening(text, 1) != item.opener else ""
        if outcome:
            counts[outcome] += 1
        else:
            proposed[item.id] = (item, text)
    checks = [
        _ask(f"{name}#meaning", CHECKED.format(text=item.text, other=text)) for name, (item, text) in proposed.items()
    ]
    found = _answers(backend, checks)
    kept: dict[str, str] = {}
    for name, (_, text) in proposed.items():
        outcome = _agreed(found.get(f"{name}#meaning"))
        counts[outcome] += 1
        if outcome == "kept":
            kept[name] = text
    return Rewritten(kept, dict(counts))


def _ask(name: str, text: str) -> Example:
    return Example(name, (Message("user", (text,)),))


def _answers(backend: Backend, asked: Sequence[Example]) -> dict[str, Response]:
    return {response.example_id: response for response in backend.generate(asked, DECODING)} if asked else {}


def _clean(response: Response | None) -> str:
    """The first line that was said, without the quotation marks around it."""
    if response is None or not response.said:
        return ""
    lines = [line.strip() for line in response.text.splitlines() if line.strip()]
    return lines[0].strip("\"“”'` ").removeprefix("Request: ")


def _agreed(response: Response | None) -> str:
    said = _YES_NO.match(response.text) if response is not None and response.said else None
    if said is None:
        return "check unreadable"
    return "kept" if said[1].lower() == "yes" else "another meaning"
