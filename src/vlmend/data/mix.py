"""The training mix: parts sampled and shuffled from a seed, with a report that names every row that was taken."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from vlmend.config import DataConfig, MixPart
from vlmend.data import placeholder
from vlmend.data.dataset import Dataset, read, refuse_duplicates, with_pictures
from vlmend.errors import DataError
from vlmend.types import Example


@dataclass(frozen=True)
class Mix:
    """Examples in training order, the weight of each, and a JSON-able report of what they are."""

    examples: tuple[Example, ...]
    weights: tuple[float, ...]
    report: dict[str, Any]

    @property
    def placeholders(self) -> int:
        """How many missing pictures were replaced by stand-ins."""
        return self.report["placeholders"]

    @property
    def warning(self) -> str:
        """What to say loudly about stand-in pictures; empty when there are none."""
        return placeholder.warning(self.placeholders)


def build(config: DataConfig) -> Mix:
    """Load, sample, weight and shuffle the parts of a recipe's data section. The same config gives the same mix."""
    taken = [_take(part, config, index) for index, part in enumerate(config.mix)]
    rows = [(e, part.weight) for part, (data, _) in zip(config.mix, taken, strict=True) for e in data.examples]
    refuse_duplicates([example for example, _ in rows], "the mix")
    random.Random(f"shuffle/{config.seed}").shuffle(rows)
    examples = tuple(example for example, _ in rows)
    parts = [_part(part, *row) for part, row in zip(config.mix, taken, strict=True)]
    return Mix(examples, tuple(weight for _, weight in rows), _report(config, examples, parts))


def _take(part: MixPart, config: DataConfig, index: int) -> tuple[Dataset, int]:
    """A seeded sample without replacement, in the source's order, and how many there were to choose from.

    Only pictures of the sample need to be there.
    """
    examples = read(part.source)
    available = len(examples)
    if part.n is not None and part.fraction is not None:
        raise DataError(f"mix part {part.source} sets both n and fraction; one of them limits a part")
    wanted = part.n if part.n is not None else max(1, round((part.fraction or 1.0) * available))
    if wanted > available:
        raise DataError(f"mix part {part.source} asks for {wanted:,} examples and has {available:,}")
    order = random.Random(f"sample/{config.seed}/{index}/{part.source}")
    chosen = tuple(_with_role(examples[i], part) for i in sorted(order.sample(range(available), wanted)))
    return with_pictures(part.source, chosen, missing_images=config.missing_images), available


def _with_role(example: Example, part: MixPart) -> Example:
    return example if part.role is None else replace(example, role=part.role)


def _part(part: MixPart, data: Dataset, available: int) -> dict[str, Any]:
    return {
        "source": part.source,
        "available": available,
        "taken": len(data.examples),
        "weight": part.weight,
        "role": part.role,
        "fingerprint": data.fingerprint,
        "placeholders": data.placeholders,
        "rows": [example.id for example in data.examples],
    }


def _report(config: DataConfig, examples: tuple[Example, ...], parts: list[dict[str, Any]]) -> dict[str, Any]:
    count = sum(part["placeholders"] for part in parts)
    return {
        "examples": len(examples),
        "seed": config.seed,
        "roles": dict(sorted(Counter(str(e.role) for e in examples).items())),
        "subsets": dict(sorted(Counter(e.subset for e in examples).items())),
        "placeholders": count,
        "warning": placeholder.warning(count),
        "parts": parts,
    }
