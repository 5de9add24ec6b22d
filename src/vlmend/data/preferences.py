"""Preference pairs as examples: what methods that train on both sides are shown.

The chosen side is an example of the role `safety`, the rejected one of the role `forget`; they share meta["pair"].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Pair, Role


def sides(pair: Pair) -> tuple[Example, Example]:
    """The chosen and the rejected side."""
    rejected = pair.prompt if pair.rejected_images is None else tuple(_with_images(pair))
    chosen = Example(
        id=f"{pair.id}/chosen",
        prompt=pair.prompt,
        answers=(pair.chosen,),
        subset=pair.subset,
        category=pair.category,
        subcategory=pair.subcategory,
        cluster=pair.cluster,
        role=Role.SAFETY,
        source=pair.source,
        meta={**pair.meta, "pair": pair.id},
    )
    return chosen, replace(
        chosen, id=f"{pair.id}/rejected", prompt=rejected, answers=(pair.rejected,), role=Role.FORGET
    )


def alike(pair: Pair) -> bool:
    """Whether both sides are one but for white space: nothing can be learned from such a pair."""
    shown = tuple(image for message in pair.prompt for image in message.images)
    return pair.chosen.split() == pair.rejected.split() and pair.rejected_images in (None, shown)


def _with_images(pair: Pair) -> Iterator[Message]:
    """The prompt with the pictures that the rejected side saw, in their order."""
    others = iter(pair.rejected_images or ())
    if sum(len(message.images) for message in pair.prompt) != len(pair.rejected_images or ()):
        raise DataError(f"pair {pair.id!r} has more or fewer rejected pictures than its prompt has places for")
    for message in pair.prompt:
        parts = tuple(next(others) if isinstance(part, Image) else part for part in message.parts)
        yield replace(message, parts=parts)
