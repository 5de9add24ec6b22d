"""Preference pairs as examples: what methods that train on both sides are shown.

The chosen side is an example of the role `safety`, the rejected one of the role `forget`; they share meta["pair"].
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlmend.data.batches import picture_groups
from vlmend.errors import DataError
from vlmend.reasoning import leading, written
from vlmend.terminal import plural
from vlmend.types import Example, Image, Message, Pair, Role


def sides(pair: Pair) -> tuple[Example, Example]:
    """The chosen and the rejected side."""
    rejected = pair.prompt
    if pair.rejected_images is not None:
        if sum(len(message.images) for message in pair.prompt) != len(pair.rejected_images):
            raise DataError(f"pair {pair.id!r} has more or fewer rejected pictures than its prompt has places for")
        rejected = tuple(_shown_with(pair.prompt, pair.rejected_images))
    (thought, answer), (other_thought, other) = leading(pair.chosen), leading(pair.rejected)
    chosen = Example(
        id=f"{pair.id}/chosen",
        prompt=pair.prompt,
        answers=(answer,),
        reasoning=thought,
        subset=pair.subset,
        category=pair.category,
        subcategory=pair.subcategory,
        cluster=pair.cluster,
        role=Role.SAFETY,
        source=pair.source,
        meta={**pair.meta, "pair": pair.id},
    )
    return chosen, replace(
        chosen,
        id=f"{pair.id}/rejected",
        prompt=rejected,
        answers=(other,),
        reasoning=other_thought,
        role=Role.FORGET,
    )


def paired(example: Example, rejected: str) -> Pair:
    """The example as a preference pair: its target before another answer."""
    return Pair(
        id=example.id,
        prompt=example.prompt,
        chosen=written(example.reasoning, example.answers[0]) if example.reasoning else example.answers[0],
        rejected=rejected,
        subset=example.subset,
        category=example.category,
        subcategory=example.subcategory,
        cluster=example.cluster,
        role=example.role,
        source=example.source,
        meta=example.meta,
    )


def alike(pair: Pair) -> bool:
    """Whether both sides are one but for white space: nothing can be learned from such a pair."""
    shown = tuple(image for message in pair.prompt for image in message.images)
    return pair.chosen.split() == pair.rejected.split() and pair.rejected_images in (None, shown)


def picture_negatives(examples: Sequence[Example], seed: int) -> Iterator[tuple[Example, Example]]:
    """For each pair among the examples that shows pictures, a pair that prefers its chosen answer to itself elsewhere.

    Chosen is what was chosen; rejected is the same question and answer about another pair's pictures, as many of them,
    drawn by the pair's name and the seed (conditional preference, arXiv 2406.11839, eq. 4, with pictures of others for
    crops). Both share a meta["pair"] of their own.

    Raises DataError where no pair shows a picture, or where no other pair shows as many that are not the same.
    """
    rejected = {e.meta["pair"] for e in examples if e.role is Role.FORGET and "pair" in e.meta}
    chosen = [e for e in examples if e.role is Role.SAFETY and e.meta.get("pair") in rejected and e.images]
    if not chosen:
        raise DataError("picture_negatives: no preference pair of the mix shows a picture")
    groups = picture_groups(chosen)
    pools: dict[int, dict[int, tuple[Image, ...]]] = {}  # by how many: each set of pictures once
    for group, example in zip(groups, chosen, strict=True):
        pools.setdefault(len(example.images), {})[group] = example.images
    drawable = {count: list(pool.items()) for count, pool in pools.items()}
    for group, example in zip(groups, chosen, strict=True):
        pair, pool = example.meta["pair"], drawable[len(example.images)]
        if len(pool) < 2:
            raise DataError(
                f"picture_negatives: {example.id!r} shows {plural(len(example.images), 'picture')}, and no other"
                " preference pair of the mix shows as many that are not the same"
            )
        at = random.Random(f"picture/{seed}/{pair}").randrange(len(pool))
        drawn = next(images for other, images in (pool[at], pool[at - 1]) if other != group)
        mine = replace(example, id=f"{example.id}/picture", meta={**example.meta, "pair": f"{pair}/picture"})
        yield (
            mine,
            replace(
                mine,
                id=f"{example.id}/other_picture",
                prompt=tuple(_shown_with(example.prompt, drawn)),
                role=Role.FORGET,
            ),
        )


def _shown_with(prompt: Sequence[Message], images: Sequence[Image]) -> Iterator[Message]:
    """The prompt with other pictures in the place of its own, in their order."""
    others = iter(images)
    for message in prompt:
        parts = tuple(next(others) if isinstance(part, Image) else part for part in message.parts)
        yield replace(message, parts=parts)
