"""Which examples each process sees at each optimizer step: a pure function of seed, epoch and step.

A step takes rows. A row has one entry of each stream, such as a forgotten example (with what belongs to it) and a
retained one. An epoch is once through the longest stream; the shorter ones come around again, shuffled anew each time,
so that none ever runs dry. Where questions about one picture stay together it is the pictures that are shuffled, the
same way in all streams. The global order never depends on the number of processes, and any step can be computed without
the ones before it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from vlmend.errors import ConfigError
from vlmend.types import Example, Image, Role

Entry = tuple[int, ...]  # indices of examples that are shown together
Stream = tuple[Entry, ...]


@dataclass(frozen=True)
class Plan:
    """How streams become optimizer steps of `rows_per_step` rows.

    groups: of each example by its index, which pictures it shows, as `picture_groups` numbers them; empty to shuffle
    examples one by one.
    """

    streams: tuple[Stream, ...]
    batch_size: int  # rows of one forward pass of one process
    accumulation: int = 1  # forward passes of one process in one step
    processes: int = 1
    seed: int = 0
    groups: tuple[int, ...] = ()

    @property
    def rows_per_step(self) -> int:
        """Rows of one full step, over all processes."""
        return self.batch_size * self.accumulation * self.processes

    @property
    def rows_per_epoch(self) -> int:
        """Entries of the longest stream."""
        return max(map(len, self.streams))

    @property
    def examples_per_row(self) -> float:
        """On average: entries of a stream need not be equally large."""
        return sum(sum(map(len, stream)) / len(stream) for stream in self.streams)

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be smaller; none is dropped."""
        return math.ceil(self.rows_per_epoch / self.rows_per_step)

    def total_steps(self, epochs: float, max_steps: int = -1) -> int:
        """Optimizer steps of the whole run, the same on every process."""
        return max_steps if max_steps > 0 else max(1, math.ceil(epochs * self.steps_per_epoch))

    def step(self, step: int) -> list[Entry]:
        """All rows of step `step` (from 0), in their global order, each as indices of examples."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.rows_per_step
        ends = min(start + self.rows_per_step, self.rows_per_epoch)
        return [self._row(epoch * self.rows_per_epoch + at) for at in range(start, ends)]

    def _row(self, number: int) -> Entry:
        """Row `number` of the whole run."""
        row: list[int] = []
        for which, stream in enumerate(self.streams):
            round_, place = divmod(number, len(stream))
            row.extend(stream[self._order(which, round_)[place]])
        return tuple(row)

    def _order(self, which: int, round_: int) -> Sequence[int]:
        """In which order a stream's entries come, the `round_`th time."""
        known = self._orders
        if (which, round_) not in known:
            while len(known) >= 2 * len(self.streams):
                known.pop(next(iter(known)))
            known[which, round_] = self._shuffled(which, round_)
        return known[which, round_]

    @cached_property
    def _orders(self) -> dict[tuple[int, int], Sequence[int]]:
        return {}

    def _shuffled(self, which: int, round_: int) -> Sequence[int]:
        stream = self.streams[which]
        order = _shuffle(len(stream), f"{self.seed}/{round_}" + f"/{which}" * (which > 0))
        if not self._grouped:
            return order
        ranks = _shuffle(max(self.groups) + 1, f"{self.seed}/{round_}/pictures")
        return sorted(order, key=lambda entry: ranks[self.groups[stream[entry][0]]])

    @cached_property
    def _grouped(self) -> bool:
        """Whether any two entries show the same pictures."""
        shown = [self.groups[entry[0]] for stream in self.streams for entry in stream] if self.groups else []
        return len(set(shown)) < len(shown)

    def window(self, step: int, process: int) -> list[list[int]]:
        """The forward passes of one process in one step, each as indices of examples, rows one after the other.

        Every process gets the same number of passes, of sizes that differ by at most one row; a pass is empty only
        when the step has fewer rows than there are processes.
        """
        return [list(itertools.chain.from_iterable(part)) for part in self._parts(step, process)]

    def share(self, step: int, process: int) -> list[Entry]:
        """The rows of one process in one step, in order."""
        return list(itertools.chain.from_iterable(self._parts(step, process)))

    def _parts(self, step: int, process: int) -> list[Sequence[Entry]]:
        rows = self.step(step)
        passes = math.ceil(len(rows) / (self.batch_size * self.processes))
        return split_evenly(rows, passes * self.processes)[process :: self.processes]


def _shuffle(count: int, seed: str) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def picture_groups(examples: Sequence[Example]) -> tuple[int, ...]:
    """A number for each example, the same for those that show the same pictures; those without have each their own.

    Pictures are told apart by file or by how they are made, without reading them.
    """
    known: dict[Hashable, int] = {}
    return tuple(
        known.setdefault(tuple(map(_origin, e.images)) or ("none", i), len(known)) for i, e in enumerate(examples)
    )


def _origin(image: Image) -> Hashable:
    make = image.make
    if not isinstance(make, partial):
        return image.path or id(make)
    found = (make.func, make.args, tuple(sorted(make.keywords.items())))
    try:
        hash(found)
    except TypeError:
        return id(make)
    return found


def split_evenly(items: Sequence[Entry], parts: int) -> list[Sequence[Entry]]:
    """Cut into `parts` consecutive pieces whose sizes differ by at most one, the longer ones first."""
    size, longer = divmod(len(items), parts)
    bounds = [i * size + min(i, longer) for i in range(parts + 1)]
    return [items[a:b] for a, b in itertools.pairwise(bounds)]


def streams_of(
    examples: Sequence[Example],
    roles: Sequence[Sequence[Role]],
    links: Mapping[Role, Role] | None = None,
    *,
    strict: bool = False,
) -> tuple[Stream, ...]:
    """One stream for each group of roles; an example whose role is a follower in `links` goes with its leader instead.

    Follower and leader share `meta["pair"]`. Raises ConfigError when a group has no example, when a follower finds no
    leader, and, with `strict`, unless each leader has exactly one follower.
    """
    by_role = {role: [i for i, e in enumerate(examples) if e.role is role] for group in roles for role in group}
    for group in roles:
        if not any(by_role[role] for role in group):
            raise ConfigError(_lacking(group, by_role))
    links = links or {}
    tied = [_tie(examples, by_role[follower], by_role[leader], strict) for follower, leader in links.items()]
    groups = [sorted(i for role in group if role not in links for i in by_role[role]) for group in roles]
    return tuple(
        tuple((i, *itertools.chain.from_iterable(t.get(i, ()) for t in tied)) for i in group)
        for group in groups
        if group
    )


def _tie(
    examples: Sequence[Example], followers: Sequence[int], leaders: Sequence[int], strict: bool
) -> Mapping[int, Sequence[int]]:
    """The followers of each leader that has some."""
    by_pair = {examples[i].meta["pair"]: i for i in reversed(leaders) if "pair" in examples[i].meta}
    tied: dict[int, list[int]] = {}
    for i in followers:
        leader = by_pair.get(examples[i].meta.get("pair", ""))
        if leader is None:
            wanted = examples[leaders[0]].role
            raise ConfigError(
                f"{examples[i].role} example {examples[i].id!r} belongs to no {wanted} example of the mix: none has "
                "its meta['pair']. Take whole pairs, by a slice such as #train[:50%] rather than n"
                + (", or set method.pd to {pairing: random}" if examples[i].role is Role.DECOUPLE else "")
            )
        tied.setdefault(leader, []).append(i)
    odd = next((i for i in leaders if len(tied.get(i, ())) != 1), None) if strict else None
    if odd is not None:
        raise ConfigError(
            f"{examples[odd].role} example {examples[odd].id!r} has {len(tied.get(odd, ()))} partners of the role "
            f"{examples[followers[0]].role} with its meta['pair']; this method needs exactly one"
        )
    return tied


def _lacking(group: Sequence[Role], by_role: Mapping[Role, Sequence[int]]) -> str:
    has = ", ".join(f"{role} {len(found):,}" for role, found in by_role.items() if found) or "none"
    return (
        f"this method needs examples of the role {' or '.join(group)}, and the mix has none (of the roles that it uses "
        f"it has: {has}); `role: {group[0]}` in a part of data.mix makes a source's examples such"
    )
