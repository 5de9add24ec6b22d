"""A model judges by a rubric: harm, graded, tone, sarr, factual, relevance, mis, helpful, or one of your own.

The prompts are ours, versioned and known by their hash. The answer is shown as data; no verdict, or one off the menu,
is unscored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import ClassVar, Literal

from vlmend.errors import ConfigError
from vlmend.judge import controls, rubric
from vlmend.judge.models import Models, Reply, Sees
from vlmend.judge.naming import spec
from vlmend.judge.reading import schema
from vlmend.judge.sifting import Pair, in_order, sifted
from vlmend.types import Decoding, Verdict

LONGEST = {"json": 64, "reason": 320, "word": 8}  # tokens


@dataclass(frozen=True)
class Rubric:
    """`rubric:NAME` or `rubric:FILE.yaml`. `model` and `sees` are those of --judge-model and --judge-sees unless given.

    reply: `json` fits a schema; `reason` gives a sentence first; `word` is the label alone; `likelihood` compares the
    labels' probabilities instead of asking for one (a local model), which also gives a score between them.
    harmful_from: the least score that is harmful, of a rubric that has such a threshold, as `graded` (1 to 5).
    """

    rubric: str
    model: str = ""
    sees: Sees = ""
    reply: Literal["json", "reason", "word", "likelihood"] = "json"
    harmful_from: float | None = None

    asks_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._rubric.closing(self.reply)
        if self.harmful_from is not None:
            if self._rubric.harmful_from is None:
                raise ConfigError(f"judge 'rubric': {self.rubric} has no harmful_from that could be another")
            try:
                self._rubric.check_threshold(self.harmful_from)
            except ValueError as error:
                raise ConfigError(f"judge 'rubric': {self.rubric}: {error}") from error

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return spec("rubric", self)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the rubric's file says."""
        return self._rubric.questions

    def about(self, models: Models) -> Mapping[str, str]:
        """Version and hash of the prompt, who is asked, and what is shown."""
        model = models.asked_by(self.name, self.model)
        return {"version": f"{self.rubric}/{self._rubric.version}", "prompt": self._rubric.hash, "model": model,
                "sees": self._shown(models)}  # fmt: skip

    @property
    def controls(self) -> tuple[str, ...]:
        """What it answers; but what is harmful by a grade or by a file of the user's, their authors decide.

        A prompt that wants to be told what controls do not have, such as a category, has none.
        """
        own = self._rubric
        graded = own.harmful_from is not None or self.rubric not in rubric.names()
        return tuple(
            question
            for question in self.answers
            if not (question == "harmful" and graded) and question in controls.questions()
            and not any(own.lacks(example) for side in controls.SIDES for example, _ in controls.pairs(question, side))
        )  # fmt: skip

    @property
    def _rubric(self) -> rubric.Rubric:
        return rubric.load(self.rubric)

    def _shown(self, models: Models) -> Sees:
        return self.sees or models.sees or self._rubric.sees

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        return in_order(self.stream(pairs, models))

    def stream(self, pairs: Sequence[Pair], models: Models) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come in, each with its pair's place."""
        unscored, open_ = sifted(self.name, pairs, self._rubric.lacks)
        yield from unscored.items()
        if not open_:
            return
        labels = self.about(models)
        for index, reply in self._replies(models, labels["model"], [pairs[place] for place in open_]):
            place = open_[index]
            yield place, self._verdict(pairs[place][1].id, reply, labels)

    def _replies(self, models: Models, model: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Reply]]:
        pictures = self._shown(models) == "image"
        prompts = [self._rubric.asked(e, r.text, self.reply, pictures=pictures) for e, r in pairs]
        menus = self._rubric.menus
        if self.reply == "likelihood":
            return models.weigh(self.name, model, prompts, menus[0].values)
        own = self._rubric.prompt
        shape = schema(menus, reason=self.reply == "reason") if self.reply in ("json", "reason") and not own else ""
        decoding = Decoding(max_new_tokens=self._rubric.tokens if own else LONGEST[self.reply], schema=shape)
        return models.ask(self.name, model, prompts, decoding, lambda text: not self._rubric.read(text).why)

    def _verdict(self, response_id: str, reply: Reply, labels: Mapping[str, str]) -> Verdict:
        if reply.why:
            return Verdict(self.name, response_id, labels=labels, why=reply.why)
        if reply.weights is not None:
            return self._weighed(response_id, reply.weights, labels)
        found = self._rubric.read(reply.text)
        if found.why:
            return Verdict(self.name, response_id, labels=labels, why=found.why)
        made = self._rubric.verdict(self.name, response_id, found.values, labels)
        return replace(self._rubric.by_score(made, self.harmful_from), why=found.reason)

    def _weighed(self, response_id: str, weights: Mapping[str, float], labels: Mapping[str, str]) -> Verdict:
        """The likeliest label; the score is the share of the first label, or the mean of what the labels stand for."""
        [menu] = self._rubric.menus
        top = max(weights.values())
        total = sum(exp(w - top) for w in weights.values())
        share = {value: exp(weights[value] - top) / total for value in menu.values}
        best = max(menu.values, key=share.__getitem__)
        worth = self._rubric.score.get(menu.name) or {menu.values[0]: 1.0}
        made = self._rubric.verdict(self.name, response_id, {menu.name: best}, labels)
        made = replace(made, score=sum(share[value] * worth.get(value, 0.0) for value in share))
        return self._rubric.by_score(made, self.harmful_from)


plugin = Rubric
