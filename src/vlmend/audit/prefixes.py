"""Refusals that do not all begin alike: an apology is exchanged or left out, what is refused and why stays."""

from __future__ import annotations

import hashlib
import re

APOLOGIES = ("I'm sorry, but", "Sorry,", "", "I apologize, but", "Unfortunately,")
_APOLOGY = re.compile(
    r"(?:i'm (?:very |really |truly )?sorry|i am (?:very |really |truly )?sorry|sorry|my apologies|i apologi[sz]e"
    r"|unfortunately)(?P<gap>[,.!]? (?:but )?)(?P<rest>(?:i|we)(?:'m|'d|'ll)? .+)",
    re.IGNORECASE | re.DOTALL,
)


def diversified(answer: str, name: str, seed: int) -> str:
    """A refusal with another apology, chosen by a hash of the example's name; other texts as they are."""
    found = _APOLOGY.fullmatch(answer.strip().replace("’", "'"))
    if not found:
        return answer
    number = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "replace"), digest_size=8).digest())
    apology = APOLOGIES[number % len(APOLOGIES)]
    rest = found["rest"]
    rest = rest[:1].upper() + rest[1:]  # `I` and `We` alike
    if apology and rest.startswith("We"):
        rest = f"w{rest[1:]}"
    return f"{apology} {rest}".strip()
