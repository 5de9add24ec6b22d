"""From examples to passes, put together so that what examples share goes through the model once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmend.data.batches import Entry
from vlmend.models.codec import Batch, Codec
from vlmend.models.pixels import LastPictures
from vlmend.models.prefix import feed
from vlmend.models.prompts import Prompt, shown, taught, together
from vlmend.ops.scored import Needs
from vlmend.train.scoring import Micro, Part
from vlmend.train.speed import Ways
from vlmend.types import Example, Role

UNEVEN = 0.8  # of a batch's padded tokens; with fewer real ones, packing pays


@dataclass
class Encoder:
    """Encodes for one model and method. `live`: the reference scores every pass."""

    model: Any
    codec: Codec
    ways: Ways
    needs: Needs
    max_length: int | None = None
    live: bool = False
    _pictures: LastPictures = field(default_factory=LastPictures)

    def __call__(self, examples: Sequence[Example], weights: Sequence[float]) -> Micro:
        """One pass. Raises DataError for an example that cannot be encoded."""
        roles = self.needs.reference if self.live else frozenset[Role]()
        compared = [i for i, example in enumerate(examples) if example.role in roles]
        deep = [not self.ways.stop or self._told(example) for example in examples]
        again = self.ways.ahead and any(example.images for example in examples)
        if not self.ways.apart or not (again or self._shares(examples) or not all(deep)):
            return self._plain(examples, tuple(weights), compared)
        made = self._one_by_one(examples)
        micro = self._micro(examples, tuple(weights), made, range(len(examples)), deep)
        if not compared:
            return micro
        shallow = self.ways.stop and self.needs.states_only
        return Micro(
            micro.batch, micro.weights, micro.parts,
            self._micro(examples, tuple(weights), made, compared, [not shallow] * len(examples)),
        )  # fmt: skip

    def _told(self, example: Example) -> bool:
        return self.needs.tokens is None or example.role in self.needs.tokens

    def _plain(self, examples: Sequence[Example], weights: tuple[float, ...], compared: Sequence[int]) -> Micro:
        batch = self.codec.encode_training(examples, self.max_length)
        if len(compared) == len(examples):
            return Micro(batch, weights, compared=Micro(batch, weights))
        if not compared:
            return Micro(batch, weights)
        some = self.codec.encode_training([examples[i] for i in compared], self.max_length)
        return Micro(batch, weights, compared=Micro(some, tuple(weights[i] for i in compared)))

    def _micro(
        self,
        examples: Sequence[Example],
        weights: tuple[float, ...],
        made: Sequence[tuple[Prompt, Batch]],
        some: Iterable[int],
        deep: Sequence[bool],
    ) -> Micro:
        """A pass of some of the examples, the shallow ones apart from those that go all the way."""
        kept = list(some)
        parts: list[Part] = []
        for all_the_way in (True, False):
            rows = tuple(row for row, i in enumerate(kept) if deep[i] is all_the_way)
            if rows:
                prompts = [made[kept[row]][0] for row in rows]
                fed = feed(prompts, self.codec.pad_id, share=self.ways.share, pack=self.ways.pack)
                parts.append(Part(rows, fed, all_the_way))
        batch = together([made[i][1] for i in kept])
        return Micro(batch, tuple(weights[i] for i in kept), tuple(parts))

    def _one_by_one(self, examples: Sequence[Example]) -> list[tuple[Prompt, Batch]]:
        """Each by itself; those with the same pictures one after the other, which decodes these once."""
        made: dict[int, tuple[Prompt, Batch]] = {}
        for i in sorted(range(len(examples)), key=lambda i: shown(examples[i])):
            opened = self._pictures.opened(examples[i])
            with self._pictures.remembered(self.codec.processor):
                made[i] = taught(self.model, self.codec, opened, self.max_length)
        return [made[i] for i in range(len(examples))]

    def _shares(self, examples: Sequence[Example]) -> bool:
        """Whether any examples show the same pictures, or lengths differ so that packing pays."""
        known = [pictures for pictures in map(shown, examples) if pictures]
        if self.ways.share and len(set(known)) < len(known):
            return True
        lengths = [self._length(example) for example in examples]
        return self.ways.pack and sum(lengths) < UNEVEN * len(lengths) * max(lengths)

    def _length(self, example: Example) -> int:
        """About how many tokens it has."""
        answer = len(example.answers[0]) // 4 if example.answers else 0
        return max(1, self.codec.prompt_length(example) + answer)

    def within(self, rows: Sequence[Entry], examples: Sequence[Example], tokens: int) -> Iterator[list[int]]:
        """Rows as passes of about so many tokens at most, counting pictures of a pass once where they are shared."""
        held: list[int] = []
        size, seen = 0, set[tuple[str, ...]]()
        for row in rows:
            cost = self._cost(row, examples, seen)
            if held and size + cost > tokens:
                yield held
                held, size, seen = [], 0, set()
                cost = self._cost(row, examples, seen)
            held += row
            size += cost
            seen |= {shown(examples[i]) for i in row}
        if held:
            yield held

    def _cost(self, row: Entry, examples: Sequence[Example], seen: set[tuple[str, ...]]) -> int:
        known, cost = set(seen), 0
        for i in row:
            pictures = shown(examples[i])
            text = self._length(examples[i])
            cost += text - (self.codec.picture_length(examples[i]) if self.ways.share and pictures in known else 0)
            known.add(pictures)
        return cost
