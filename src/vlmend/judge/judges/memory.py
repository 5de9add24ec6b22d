"""How well the model under test still knows each example's reference answer, read from its likelihoods.

It reads the model that answered, not the stored answer, and forms no opinion, so it need not be another model. The
model has to be a local one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlmend.errors import ConfigError
from vlmend.judge.models import Models
from vlmend.judge.naming import spec
from vlmend.judge.sifting import Pair, in_order
from vlmend.metrics.memory import LOWEST, extraction_strength, min_k, probability
from vlmend.types import Example, Likelihood, Scorer, Verdict

VERSION = "memory/1"


@dataclass(frozen=True)
class Memory:
    """Of the first reference answer, given the question and its pictures. score = `probability`.

    `scores`: probability (per token), total (of the whole answer), extraction (strength), min_k (over the `lowest`
    percent of its tokens). `vlmend.metrics.memory` has the definitions.
    """

    lowest: int = LOWEST

    answers: ClassVar[tuple[str, ...]] = ("remembers",)
    asks_model: ClassVar[bool] = True
    takes_silence: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= 100:
            raise ConfigError(f"judge 'memory': lowest is a percentage from 1 to 100, got {self.lowest}")

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return spec("memory", self)

    def about(self, models: Models) -> Mapping[str, str]:
        """The rule's version."""
        del models
        return {"version": VERSION}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        return in_order(self.stream(pairs, models))

    def stream(self, pairs: Sequence[Pair], models: Models) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come in, each with its pair's place; several answers to an example share its reading."""
        places: dict[str, list[int]] = {}
        examples: dict[str, Example] = {}
        for place, (example, response) in enumerate(pairs):
            if example.answers and example.answers[0].strip():
                places.setdefault(example.id, []).append(place)
                examples[example.id] = example
            else:
                yield place, self._unscored(response.id, "the example has no reference answer")
        for name, found in self._read(models, list(examples.values())):
            for place in places[name]:
                response = pairs[place][1]
                yield (
                    place,
                    self._unscored(response.id, found) if isinstance(found, str) else self._verdict(response.id, found),
                )

    def _read(self, models: Models, examples: Sequence[Example]) -> Iterator[tuple[str, Likelihood | str]]:
        """What the model makes of each example's answer, or why that cannot be known, by example id."""
        if not examples:
            return
        why = "not asked: a dry run" if models.purse.dry else ""
        why = why or ("" if models.tested else "no model is under test here")
        model = None if why else models.under_test(self.name)
        if not isinstance(model, Scorer):
            why = why or f"{models.tested} cannot say how likely an answer is; a local model can"
            yield from ((example.id, why) for example in examples)
            return
        for one in model.likelihoods([(example, example.answers[:1]) for example in examples]):
            known = one.logprob is not None and math.isfinite(one.logprob) and one.by_token
            yield one.example_id, one if known else one.why or "the model gives no finite likelihood"

    def _verdict(self, response: str, found: Likelihood) -> Verdict:
        scores = {
            "probability": probability(found.by_token),
            "total": math.exp(sum(found.by_token)),
            "extraction": extraction_strength(found.greedy),
            "min_k": min_k(found.by_token, self.lowest),
        }
        return Verdict(self.name, response, labels={"version": VERSION}, score=scores["probability"], scores=scores)

    def _unscored(self, response: str, why: str) -> Verdict:
        return Verdict(self.name, response, labels={"version": VERSION}, why=why)


plugin = Memory
