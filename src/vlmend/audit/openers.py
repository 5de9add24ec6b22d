"""First words, shared out so that both labels begin alike: each request is reworded only where its own word is full."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmend.audit.rows import Rows, opening
from vlmend.audit.wordings import OPENERS, Wording, parse, reword

RARE = 0.01  # openers that are rarer than this, the mean of both labels, are not used
DEFAULT = ("what", "can", "please", "tell", "describe")


@dataclass(frozen=True)
class Reworded:
    """The question an example has now, and whether a rule made it whose grammar is plain."""

    text: str
    opener: str
    plain: bool


def target(rows: Rows) -> dict[str, float]:
    """Share of each opener: the mean of its shares among refused and answered, for the openers that rules know."""
    first = rows.first_words()
    sides = [Counter(word for word, r in zip(first, rows.refused, strict=True) if r == side) for side in (True, False)]
    mean = {word: sum(side[word] / side.total() for side in sides) / 2 for word in OPENERS}
    known = {word: share for word, share in mean.items() if share >= RARE}
    if len(known) < 2:
        known = dict.fromkeys(DEFAULT, 1.0)
    total = sum(known.values())
    return {word: share / total for word, share in known.items()}


def quotas(shares: Mapping[str, float], n: int) -> dict[str, int]:
    """How many of n each opener gets: whole numbers by the largest remainders."""
    exact = {word: share * n for word, share in shares.items()}
    given = {word: int(value) for word, value in exact.items()}
    left = n - sum(given.values())
    for word in sorted(exact, key=lambda word: (given[word] - exact[word], word))[:left]:
        given[word] += 1
    return given


def reword_all(rows: Rows, seed: int) -> dict[int, Reworded]:
    """New questions by place in the data set, so that both labels have the same openers in the same shares.

    The shares hold within each kind of request (things, clauses, what is to be done …), so that what follows an opener
    does not tell the labels apart either. An example keeps its opener while there is room for it; who moves is decided
    by whether a plain wording exists, then by a hash. What has no words is left alone.
    """
    shares = target(rows)
    groups: dict[tuple[bool, str], list[int]] = {}
    for i, (example, refused) in enumerate(zip(rows.examples, rows.refused.tolist(), strict=True)):
        if rows.words[i]:
            groups.setdefault((refused, parse(example.question).kind), []).append(i)
    made: dict[int, Reworded] = {}
    for places in groups.values():
        made |= _reword_group(rows, places, quotas(shares, len(places)), seed)
    return made


def _reword_group(rows: Rows, places: Sequence[int], room: dict[str, int], seed: int) -> dict[int, Reworded]:
    order = {i: hashlib.blake2b(f"{seed}/{rows.examples[i].id}".encode("utf-8", "replace")).digest() for i in places}
    options = {i: _options(rows.examples[i].question, tuple(room)) for i in places}
    hardest = sorted(places, key=lambda i: (sum(w.plain for w in options[i].values()), order[i]))
    left: list[int] = []
    for i in hardest:
        own = rows.words[i][0]
        if room.get(own, 0) > 0:
            room[own] -= 1
        elif options[i]:
            left.append(i)
    return _assigned(left, options, room)


def _options(text: str, openers: tuple[str, ...]) -> dict[str, Wording]:
    """The text behind each opener, as far as it then really begins with that word."""
    made = {opener: reword(text, opener) for opener in openers}
    return {opener: w for opener, w in made.items() if w is not None and opening(w.text, 1) == opener}


def _assigned(
    left: Sequence[int], options: Mapping[int, Mapping[str, Wording]], room: dict[str, int]
) -> dict[int, Reworded]:
    """An opener with room for each example, in the order given: a plain one where there is one, the roomiest of those.

    The examples with fewest plain wordings choose first.
    """
    made: dict[int, Reworded] = {}
    for i in left:
        free = [opener for opener in options[i] if room[opener] > 0]
        if free:
            chosen = max(free, key=lambda opener: (options[i][opener].plain, room[opener], opener))
            room[chosen] -= 1
            made[i] = Reworded(options[i][chosen].text, chosen, options[i][chosen].plain)
    return made
