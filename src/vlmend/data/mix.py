"""The training mix: parts sampled and shuffled from a seed, with a report that names every row that was taken."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vlmend.config import DataConfig, MixPart
from vlmend.data import placeholder
from vlmend.data.dataset import Dataset, PictureRules, read_any, refuse_duplicates, stand_ins, with_pictures
from vlmend.data.preferences import alike, picture_negatives, sides
from vlmend.data.progress import watched
from vlmend.errors import DataError
from vlmend.terminal import plural
from vlmend.types import Example, Pair, Role


@dataclass(frozen=True)
class Mix:
    """Examples in training order, the weight of each, and a JSON-able report of what they are."""

    examples: tuple[Example, ...]
    weights: tuple[float, ...]
    report: dict[str, Any]

    def of_roles(self, roles: frozenset[Role]) -> Mix:
        """Without examples of other roles; how many of each were left out goes to the report."""
        kept = [(e, w) for e, w in zip(self.examples, self.weights, strict=True) if e.role in roles]
        left_out = Counter(str(example.role) for example in self.examples if example.role not in roles)
        report = {**self.report, "examples": len(kept), "left_out": dict(sorted(left_out.items()))}
        return Mix(tuple(example for example, _ in kept), tuple(weight for _, weight in kept), report)

    def with_feedback(self) -> Mix:
        """With every answer that people did not want as that of an example of the role forget.

        An example that has answers to give as well stays beside it, which is then named after it.
        """
        told = [(each, w) for e, w in zip(self.examples, self.weights, strict=True) for each in _told_apart(e)]
        examples, weights = tuple(example for example, _ in told), tuple(weight for _, weight in told)
        return Mix(examples, weights, {**self.report, **_counted(examples)})

    def with_picture_negatives(self, seed: int) -> Mix:
        """With a pair more for each preference pair that shows pictures: its chosen answer about others' pictures."""
        weights = {e.id: w for e, w in zip(self.examples, self.weights, strict=True)}
        added = [
            (one, weights[mine.id.removesuffix("/picture")])
            for mine, other in picture_negatives(self.examples, seed)
            for one in (mine, other)
        ]
        examples = (*self.examples, *(example for example, _ in added))
        refuse_duplicates(examples, "the mix with picture_negatives")
        return Mix(examples, (*self.weights, *(w for _, w in added)), {**self.report, **_counted(examples)})

    def without(self, bad: Collection[str]) -> Mix:
        """Without the examples of these ids, and those that share their `meta["pair"]`.

        The report then names them in `skipped`, and not among the rows of their part.
        """
        broken = {example.meta["pair"] for example in self.examples if example.id in bad and "pair" in example.meta}
        gone = {e.id for e in self.examples if e.id in bad or e.meta.get("pair") in broken}
        if not gone:
            return self
        kept = [(e, w) for e, w in zip(self.examples, self.weights, strict=True) if e.id not in gone]
        if not kept:
            raise DataError(f"each of the {len(gone):,} examples of the mix has a picture that cannot be shown")
        left = {e.id for e, _ in kept}
        parts = [{**part, "rows": [row for row in part["rows"] if row in left]} for part in self.report["parts"]]
        parts = [{**part, "taken": len(part["rows"])} for part in parts]
        report = {
            **self.report,
            **_counted([e for e, _ in kept]),
            "parts": parts,
            "skipped": {"count": len(gone), "rows": sorted(gone)},
        }
        return Mix(tuple(example for example, _ in kept), tuple(weight for _, weight in kept), report)

    def taught(self) -> Mix:
        """The same. Raises DataError where an example has no answer to learn, or one that is to be avoided."""
        total = plural(len(self.examples), "example")
        avoided = [e.id for e in self.examples if e.avoid and not _says(e)]
        if avoided:
            raise DataError(
                f"{len(avoided):,} of {total} hold an answer to avoid (unpaired feedback, such as label: false), such"
                f" as {avoided[0]!r}; this method learns answers, so it would learn to give them. Leave them out,"
                " take a method that learns from feedback (kto), or give their part of the mix the role forget for a"
                " method that unlearns"
            )
        silent = [e.id for e in self.examples if not _says(e)]
        if silent:
            raise DataError(
                f"{len(silent):,} of {total} have no answer to learn from, such as {silent[0]!r};"
                " `vlmend data check` lists such rows"
            )
        return self

    @property
    def placeholders(self) -> int:
        """How many missing pictures were replaced by stand-ins."""
        return self.report["placeholders"]

    @property
    def warning(self) -> str:
        """What to say loudly about stand-in pictures; empty when there are none."""
        return placeholder.warning(self.placeholders)


class Part(NamedTuple):
    """What a part of the mix takes: its data, and how many examples there were to choose from."""

    settings: MixPart
    data: Dataset
    available: int


def build(config: DataConfig) -> Mix:
    """Load, sample, weight and shuffle the parts of a recipe's data section. The same config gives the same mix."""
    pools = [_pool(part) for part in config.mix]
    if config.replay is None:
        chosen = [_sample(p, pool, n, config, i) for i, (p, pool, n) in enumerate(_sizes(config.mix, pools))]
    else:
        chosen = _replayed(config.replay, config.mix, pools)
    parts = [
        Part(part, _dataset(part, rows, config), len(pool))
        for part, rows, pool in zip(config.mix, chosen, pools, strict=True)
    ]
    rows = [(example, part.settings.weight) for part in parts for example in part.data.examples]
    refuse_duplicates([example for example, _ in rows], "the mix")
    random.Random(f"shuffle/{config.seed}").shuffle(rows)
    return Mix(tuple(example for example, _ in rows), tuple(weight for _, weight in rows), _report(config, rows, parts))


def _pool(part: MixPart) -> tuple[Example, ...]:
    """What a part may choose from."""
    limits = [name for name in ("n", "fraction", "ratio") if getattr(part, name) is not None]
    if len(limits) > 1:
        raise DataError(f"mix part {part.source} sets both {' and '.join(limits)}; one of them limits a part")
    items = tuple(watched(read_any(part.source), f"{part.source}: examples read:"))
    if any(isinstance(item, Pair) for item in items) and (limits or part.role):
        raise DataError(
            f"mix part {part.source} holds preference pairs, each shown as two examples; "
            f"{(*limits, 'role')[0]} would part them: take a slice such as #train[:1000]"
        )
    _refuse_alike(part.source, items)
    rows = chain.from_iterable(sides(item) if isinstance(item, Pair) else (item,) for item in items)
    examples = tuple(example for example in rows if part.where(example))
    if not examples:
        raise DataError(f"mix part {part.source} has no example left after its filter {part.where!r}")
    return examples


def _refuse_alike(source: str, items: Sequence[Example | Pair]) -> None:
    """Raise DataError for pairs with one answer on both sides: they would be trained on and change nothing."""
    same = [item.id for item in items if isinstance(item, Pair) and alike(item)]
    if same:
        named = ", ".join(map(repr, same[:5])) + (" …" if len(same) > 5 else "")
        raise DataError(
            f"{len(same):,} of the {len(items):,} pairs of {source} have the same answer, but for blanks, as chosen "
            f"and as rejected: {named}; `vlmend data check --fix` writes a copy without them"
        )


def _sizes(
    parts: Sequence[MixPart], pools: Sequence[Sequence[Example]]
) -> Iterator[tuple[MixPart, Sequence[Example], int]]:
    """How many examples each part takes. Ratios are of the whole mix: parts without one make up the rest of it."""
    ratios = sum(part.ratio or 0.0 for part in parts)
    if ratios and (ratios >= 1 or all(part.ratio for part in parts)):
        raise DataError(f"the ratios of the mix add up to {ratios:g}; they must leave room for a part without a ratio")
    fixed = [
        part.n or max(1, round((part.fraction or 1.0) * len(pool))) for part, pool in zip(parts, pools, strict=True)
    ]
    rest = sum(n for part, n in zip(parts, fixed, strict=True) if part.ratio is None)
    for part, pool, n in zip(parts, pools, fixed, strict=True):
        wanted = n if part.ratio is None else max(1, round(part.ratio * rest / (1 - ratios)))
        if wanted > len(pool):
            raise DataError(f"mix part {part.source} asks for {wanted:,} examples and has {len(pool):,}")
        yield part, pool, wanted


def _sample(part: MixPart, pool: Sequence[Example], n: int, config: DataConfig, index: int) -> list[Example]:
    """A seeded sample without replacement, in the source's order."""
    order = random.Random(f"sample/{config.seed}/{index}/{part.source}")
    return [pool[i] for i in sorted(order.sample(range(len(pool)), n))]


def _replayed(file: Path, parts: Sequence[MixPart], pools: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """The rows that the report of an earlier mix names, part by part."""
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))["parts"]
        named = [(part["source"], list(part["rows"])) for part in earlier]
    except OSError as error:
        raise DataError(f"mix {file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a mix that `vlmend data mix` or a run wrote ({error!r})") from error
    if [source for source, _ in named] != [part.source for part in parts]:
        raise DataError(f"mix {file} is of the sources {', '.join(s for s, _ in named)}; the recipe names others")
    return [_by_id(source, rows, pool, file) for (source, rows), pool in zip(named, pools, strict=True)]


def _by_id(source: str, rows: Sequence[str], pool: Sequence[Example], file: Path) -> list[Example]:
    known = {example.id: example for example in pool}
    if gone := [row for row in rows if row not in known]:
        raise DataError(f"{source} no longer has {len(gone):,} of the {len(rows):,} rows of {file}, first {gone[0]!r}")
    return [known[row] for row in rows]


def _dataset(part: MixPart, rows: Sequence[Example], config: DataConfig) -> Dataset:
    """The rows with their role and pictures; only pictures of these rows need to be there."""
    chosen = tuple(_with_role(example, part) for example in rows)
    return with_pictures(part.source, chosen, PictureRules(config.missing_images, "leave", config.max_pixels))


def _with_role(example: Example, part: MixPart) -> Example:
    """The example in the part's role. An answer to avoid that is to be forgotten is the answer of that example."""
    if part.role is None:
        return example
    told = {"answers": example.avoid, "avoid": ()} if part.role is Role.FORGET and example.avoid else {}
    return replace(example, role=part.role, **told)


def _told_apart(example: Example) -> Iterator[Example]:
    """An example as one with answers to give, one with answers to avoid, or both."""
    gives = _says(example)
    if gives or not example.avoid:
        yield replace(example, avoid=())
    if example.avoid:
        name = f"{example.id}/avoid" if gives else example.id
        yield replace(example, id=name, answers=example.avoid, avoid=(), role=Role.FORGET)


def _says(example: Example) -> bool:
    return bool(example.answers and example.answers[0].strip())


def _part(part: Part) -> dict[str, Any]:
    settings, data, available = part
    return {
        "source": settings.source,
        "where": settings.where.model_dump(mode="json", exclude_none=True),
        "available": available,
        "taken": len(data.examples),
        "weight": settings.weight,
        "role": settings.role,
        "fingerprint": data.fingerprint,
        "placeholders": data.placeholders,
        "rows": [example.id for example in data.examples],
    }


def _report(config: DataConfig, rows: Sequence[tuple[Example, float]], parts: Sequence[Part]) -> dict[str, Any]:
    count = len(stand_ins(part.data for part in parts))
    return {
        **_counted([example for example, _ in rows]),
        "seed": config.seed,
        "placeholders": count,
        "warning": placeholder.warning(count),
        "parts": [_part(part) for part in parts],
    }


def _counted(examples: Sequence[Example]) -> dict[str, Any]:
    return {
        "examples": len(examples),
        "roles": dict(sorted(Counter(str(e.role) for e in examples).items())),
        "subsets": dict(sorted(Counter(e.subset for e in examples).items())),
    }
