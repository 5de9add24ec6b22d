"""Fewer rows, in which a value comes with both labels in the same proportion: nothing is repeated, nothing reworded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vlmend.audit.contrasts import same_picture
from vlmend.audit.measures import Bools, Ints
from vlmend.audit.rows import Rows, opening


def preference(rows: Rows, seed: int) -> list[int]:
    """The places of all examples, those to be kept first in front: both questions of one picture, then by a hash."""
    paired = same_picture(rows)
    keys = [hashlib.blake2b(f"{seed}/{e.id}".encode("utf-8", "replace")).digest() for e in rows.examples]
    return sorted(range(len(rows)), key=lambda i: (not paired[i], keys[i]))


def balanced(strata: Ints, refused: Bools, order: Sequence[int]) -> Bools:
    """Which rows to keep so that every stratum has the labels in the proportion of the whole.

    Of a stratum with R refused and A answered rows, t r and t (1 - r) are kept, where r is the share of refused ones in
    all and t = min(R / r, A / (1 - r)); a stratum in which one of them rounds to nothing goes altogether.
    """
    whole = refused.mean()
    answered, withheld = (np.bincount(strata[refused == side], minlength=int(strata.max()) + 1) for side in (0, 1))
    size = np.minimum(withheld / whole, answered / (1 - whole))
    room = np.rint(np.stack([size * (1 - whole), size * whole])).astype(np.int64)
    room[:, (room == 0).any(axis=0)] = 0
    keep = np.zeros(len(refused), dtype=bool)
    for i in order:
        side, stratum = int(refused[i]), strata[i]
        if room[side, stratum] > 0:
            room[side, stratum] -= 1
            keep[i] = True
    return keep


def capped(rows: Rows, length: int, cap: float, order: Sequence[int]) -> Bools:
    """Which rows to keep so that no opening of a side's answers has more than a share `cap` of that side.

    The commonest opening is cut to cap / (1 - cap) times all others; a side that has but one cannot be mended so, and
    is left alone.
    """
    keep = np.ones(len(rows), dtype=bool)
    starts = [opening(e.answers[0], length) if e.answers else None for e in rows.examples]
    for side in (True, False):
        places = [i for i in order if rows.refused[i] == side and starts[i] is not None]
        counts = Counter(starts[i] for i in places)
        if not counts:
            continue
        commonest, n = counts.most_common(1)[0]
        others = len(places) - n
        most = int(others * cap / (1 - cap))
        if others and n > most:
            surplus = [i for i in places if starts[i] == commonest][most:]
            keep[surplus] = False
    return keep
