"""How much likelier a model finds "Yes" than "No" as the answer to the example's question: its log-probability margin.

It reads the named model, not the stored answer. Named is usually the model under test, which must then be allowed:
`margin:MODEL?allow_self=yes`. The model has to be a local one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlmend.errors import ConfigError
from vlmend.judge.models import Models
from vlmend.judge.naming import spec
from vlmend.judge.sifting import Pair, in_order, sifted
from vlmend.types import Example, Response, Verdict

VERSION = "margin/1"


@dataclass(frozen=True)
class Margin:
    """score = log p(yes | question, pictures) - log p(no | …); `correct` where a reference answer begins with one."""

    model: str
    yes: str = "Yes"
    no: str = "No"

    answers: ClassVar[tuple[str, ...]] = ("right",)
    asks_model: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ()  # it asks what the model itself would say, whatever was answered

    def __post_init__(self) -> None:
        if not self.yes.strip() or not self.no.strip() or self.yes.casefold() == self.no.casefold():
            raise ConfigError(f"judge 'margin' compares two different answers, not {self.yes!r} and {self.no!r}")

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return spec("margin", self)

    def about(self, models: Models) -> Mapping[str, str]:
        """The rule's version and the model that is read."""
        return {"version": VERSION, "model": models.asked_by(self.name, self.model)}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        return in_order(self.stream(pairs, models))

    def stream(self, pairs: Sequence[Pair], models: Models) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come in, each with its pair's place."""
        unscored, open_ = sifted(self.name, pairs)
        yield from unscored.items()
        if not open_:
            return
        labels = self.about(models)
        prompts = [pairs[place][0].prompt for place in open_]
        for index, reply in models.weigh(self.name, labels["model"], prompts, (self.yes, self.no)):
            example, response = pairs[open_[index]]
            if reply.weights is None:
                yield open_[index], Verdict(self.name, response.id, labels=labels, why=reply.why)
            else:
                yield open_[index], self._verdict(example, response, reply.weights, labels)

    def _verdict(
        self, example: Example, response: Response, weights: Mapping[str, float], labels: Mapping[str, str]
    ) -> Verdict:
        score = weights[self.yes] - weights[self.no]
        leads = "yes" if score > 0 else "no" if score < 0 else ""
        right = next(filter(None, map(self._side, example.answers)), "")
        correct = leads == right if leads and right else None
        return Verdict(self.name, response.id, correct=correct, labels={**labels, "leads": leads}, score=score)

    def _side(self, answer: str) -> str:
        """`yes` or `no` for a reference answer that begins with that word, and not merely with its letters."""
        plain = answer.strip().casefold()
        for side, word in (("yes", self.yes.casefold()), ("no", self.no.casefold())):
            if plain.startswith(word) and not plain[len(word) : len(word) + 1].isalnum():
                return side
        return ""


plugin = Margin
