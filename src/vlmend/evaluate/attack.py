"""Attack examples, and hold each attack to its word: what it says it leaves alone must come back untouched.

Variants are named here: `id@name`, with the id they come from in `meta["variant_of"]`. Variants that ask the same are
one, and a variant that asks what was asked before is marked, not hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmend.errors import DataError, UsageError
from vlmend.types import Attack, Bounded, Example, Image, Message, NeedsOthers, NeedsVictim, Victim

KEPT = ("id", "answers", "expected", "subset", "category", "subcategory", "cluster", "role", "source", "reasoning")
UNCHANGED = "unchanged"  # key in `meta` of what an attack left as it was


def attacked(chain: Sequence[Attack], examples: Sequence[Example]) -> list[Example]:
    """Every example after the whole chain; an attack of K variants makes K examples of each."""
    for attack in chain:
        ready = _among(attack, examples)
        examples = [variant for example in examples for variant in _variants(ready, example)]
    return list(examples)


def aimed(chain: Sequence[Attack], victim: Victim, folder: Path) -> list[Attack]:
    """The chain, its white-box attacks turned against a model; what they make is kept in `folder`."""

    return [attack.against(victim, folder) if isinstance(attack, NeedsVictim) else attack for attack in chain]


def needs_victim(attack: Attack) -> bool:
    """Whether the attack must see into the model."""
    return isinstance(attack, NeedsVictim)


def name_of(attack: Attack) -> str:
    """Name of the attack's file, as on the command line."""
    return type(attack).__module__.rpartition(".")[2]


def _among(attack: Attack, examples: Sequence[Example]) -> Attack:
    return attack.among(examples) if isinstance(attack, NeedsOthers) else attack


def _variants(attack: Attack, example: Example) -> Iterator[Example]:
    try:
        made = attack(example)
    except DataError:
        if not any(map(_unreadable, example.images)):
            raise
        made = example  # to be asked as it is, which fails and says why
    found = [made] if isinstance(made, Example) else list(made)
    if not found:
        raise UsageError(f"attack {name_of(attack)} made nothing of example {example.id!r}")
    seen: list[tuple[Message, ...]] = []
    for variant in found:
        _hold(attack, example, variant)
        if variant.prompt in seen:
            continue
        seen.append(variant.prompt)
        if not isinstance(made, Example):
            variant = _named(attack, example, variant)
        yield _marked(example, variant)


def _unreadable(image: Image) -> bool:
    try:
        image.open()
    except DataError:
        return True
    return False


def _named(attack: Attack, example: Example, variant: Example) -> Example:
    label = variant.meta.get("variant", "")
    if not label or label == example.meta.get("variant"):
        raise UsageError(f"attack {name_of(attack)} made a variant of {example.id!r} without a name")
    before = example.meta.get("variant")
    meta = {**variant.meta, "variant_of": example.origin, "variant": f"{before}+{label}" if before else label}
    return replace(variant, id=f"{example.id}@{label}", meta=meta)


def _marked(example: Example, variant: Example) -> Example:
    if variant.prompt != example.prompt:
        return variant
    return replace(variant, meta={**variant.meta, UNCHANGED: "yes"})


# Budgets


def _hold(attack: Attack, before: Example, after: Example) -> None:
    """Raise UsageError when the attack touched what it says it leaves alone, or went beyond its budget."""
    touched = next(filter(None, _touched(attack.changes, before, after)), None)
    if touched is None and isinstance(attack, Bounded):
        touched = _beyond(attack.linf, before, after)
    if touched:
        raise UsageError(
            f"attack {name_of(attack)} changed {touched} of example {before.id!r}, which it says it does not; "
            "nothing was asked"
        )


def _touched(changes: frozenset[Any], before: Example, after: Example) -> Iterator[str | None]:
    yield next((name for name in KEPT if getattr(before, name) != getattr(after, name)), None)
    if "text" not in changes and before.question != after.question:
        yield "the text"
    if "pictures" not in changes and before.images != after.images:
        yield "the pictures"
    if "places" not in changes and _places(before) != _places(after):
        yield "how many pictures there are, or where"
    if "history" not in changes and _said(before) != _said(after):
        yield "the turns before the last"


def _places(example: Example) -> list[list[int]]:
    """For each turn, how many texts stand before each of its pictures."""
    return [
        [sum(isinstance(p, str) for p in m.parts[:i]) for i, part in enumerate(m.parts) if isinstance(part, Image)]
        for m in example.prompt
    ]


def _said(example: Example) -> list[tuple[str, str]]:
    """Who said what before the last turn; turns that are pictures alone do not count."""
    return [(m.role, m.text) for m in example.prompt[:-1] if m.text]


def _beyond(limit: float, before: Example, after: Example) -> str | None:
    """What is wrong when a picture differs in size, or by more than `limit` of 255 in some pixel (L-infinity)."""
    import numpy as np

    for old, new in zip(before.images, after.images, strict=True):
        first, second = (np.asarray(image.open(), dtype=np.int16) for image in (old, new))
        if first.shape != second.shape:
            return "the size of a picture"
        worst = int(np.abs(first - second).max(initial=0))
        if worst > limit:
            return f"a pixel by {worst} of 255, more than its {limit:g},"
    return None
