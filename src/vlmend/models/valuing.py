"""What a saved reward or cost model says of answers: the same tokens as in training, what they share fed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from vlmend.config import ModelConfig
from vlmend.errors import DataError, ModelError
from vlmend.models import head as heads
from vlmend.models import valuer
from vlmend.models.features import Features
from vlmend.models.kept import Memory
from vlmend.models.load import Loaded, load
from vlmend.models.pixels import LastPictures
from vlmend.models.places import locate
from vlmend.models.plan import Budget, Line, attempt, batches, opening, order
from vlmend.models.plan import say as warn
from vlmend.models.prefix import SHARING, Feed, attention_of, feed, plain
from vlmend.models.prompts import Prompt, taught, whole_only
from vlmend.ops.logprobs import places
from vlmend.types import Example

MIB = 1024 * 1024
Value = tuple[int, float | None]


@dataclass
class Valuer:
    """A model with its head; `about` says what the head is."""

    loaded: Loaded
    head: nn.Linear
    about: valuer.About
    budget: Budget = field(default_factory=lambda: Budget(64, 16_384))
    features_mb: int = 1024
    _pictures: LastPictures = field(default_factory=LastPictures)

    def __call__(self, examples: Sequence[Example]) -> list[float | None]:
        """What the head says at the end of each example's first answer, in their order.

        None for an example that cannot be encoded or does not fit on the device; why is said.
        """
        found: dict[int, float | None] = {}
        made = self._encoded(examples)
        groups = {number: opening(examples[number]) for number in made}
        numbers = list(made)
        ranked = order([groups[n] for n in numbers], [len(made[n][0]) for n in numbers])
        lines = [Line(numbers[i], made[numbers[i]][0], groups[numbers[i]]) for i in ranked]

        def work(some: list[Line]) -> list[Value]:
            values = self._values([examples[line.number] for line in some], [made[line.number] for line in some])
            return list(zip((line.number for line in some), values, strict=True))

        def fail(line: Line) -> Value:
            warn("an answer to example %r is left unscored: the device is out of memory", examples[line.number].id)
            return line.number, None

        for batch in batches(lines, self.budget, new=0):
            for done in attempt(batch, self.budget, 0, work, fail):
                found.update(done)
        return [found.get(number) for number in range(len(examples))]

    def _encoded(self, examples: Sequence[Example]) -> dict[int, tuple[Prompt, int]]:
        """Conversations, and where in each the answer's last token stands, by number."""
        made: dict[int, tuple[Prompt, int]] = {}
        for number, example in enumerate(examples):
            try:
                shown = self._pictures.opened(example)
                with self._pictures.remembered(self.loaded.codec.processor):
                    prompt, batch = taught(self.loaded.model, self.loaded.codec, shown)
            except (DataError, ModelError) as error:
                warn("an answer to example %r is left unscored: %s", example.id, error)
                continue
            attention, labels = batch.inputs["attention_mask"], batch.labels
            at = places("end", labels, attention, batch.image_mask)[0].nonzero()
            if len(at) == 1:
                made[number] = prompt, int(at[0])
        return made

    @cached_property
    def _features(self) -> Features:
        return Features(self.loaded.model, self.loaded.codec.family.features, Memory(self.features_mb * MIB))

    @torch.inference_mode()
    def _values(self, examples: Sequence[Example], made: Sequence[tuple[Prompt, int]]) -> list[float]:
        if whole_only(self.loaded.model, self.loaded.codec):
            alone = [self.loaded.codec.encode_training([example]) for example in examples]
            fed = [(plain(batch), [end]) for batch, (_, end) in zip(alone, made, strict=True)]
        else:
            free = attention_of(self.loaded.model) in SHARING
            prompts = [prompt for prompt, _ in made]
            fed = [(feed(prompts, self.loaded.codec.pad_id, share=free, pack=free), [end for _, end in made])]
        return [value for one, ends in fed for value in self._run(one, ends).tolist()]

    def _run(self, fed: Feed, ends: Sequence[int]) -> Tensor:
        """(E,) what the head says at the ends."""
        model = self.loaded.model
        fed = fed.to(model.device)
        inputs = {**fed.inputs, "attention_mask": fed.visible(model)}
        if fed.shown:
            inputs["mm_encoder_outputs"] = {"image": self._features(fed.shown)}
        with heads.at(model, fed.place[range(len(ends)), list(ends)], run=False) as chosen:
            model(**inputs, use_cache=False)
        return self.head(chosen.states.float()).squeeze(-1)


def open_valuer(folder: Path, base: str = "", device: str = "auto", dtype: str = "auto") -> Valuer:
    """The model in a folder that method `reward` or `cost` wrote, on its base or on `base`.

    Raises ModelError for a folder without a head, and where weights do not go together.
    """
    about = valuer.describe(folder)
    if about.adapted:
        config = ModelConfig.from_spec(f"{base or about.base}+{folder}", device=device, dtype=dtype)
    else:
        config = ModelConfig(name=str(folder), device=device, dtype=dtype)  # type: ignore[arg-type]
    loaded = load(config)
    return Valuer(loaded, valuer.restore(loaded.model, folder), about)


def check(folder: Path, base: str = "") -> None:
    """Raise ModelError for what shows without reading weights: no head there, or no such base."""
    about = valuer.describe(folder)
    if about.adapted:
        locate((base or about.base).partition("?")[0])
