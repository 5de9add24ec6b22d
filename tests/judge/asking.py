"""A judge's model for tests: scripted, counted, and able to say how likely answers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.judge.knowing import known, right
from vlmend.judge.models import Models, Sees
from vlmend.money import Purse
from vlmend.store.cache import Cache
from vlmend.types import Decoding, Example, Finish, Likelihood, Message, Response

MODEL = "scripted:judge"
Pair = tuple[Example, Response]


@dataclass
class Model:
    """Says what `reply` says about a prompt's text; what that raises is a failed response.

    What it `knows`, the controls, it is right about; those are among `controls`, not among what it was `asked`.
    """

    reply: Callable[[str], str]
    fingerprint: str = "model"
    read: int = 40  # tokens of every prompt
    asked: list[Example] = field(default_factory=list[Example])
    decodings: list[Decoding] = field(default_factory=list[Decoding])
    knows: bool = True
    controls: list[Example] = field(default_factory=list[Example])

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example in reversed(examples):  # in any order
            control = known("\n".join(turn.text for turn in example.prompt)) if self.knows else None
            if control is not None:
                self.controls.append(example)
                yield Response(example.id, example.id, control, Finish.STOP, tokens=5, prompt_tokens=self.read)
                continue
            self.asked.append(example)
            self.decodings.append(decoding)
            try:
                text, finish, why = self.reply(example.question), Finish.STOP, ""
            except RuntimeError as error:
                text, finish, why = "", Finish.FAILED, str(error)
            yield Response(example.id, example.id, text, finish, tokens=5, why=why, prompt_tokens=self.read)


@dataclass
class Weigher(Model):
    """Finds an answer as likely as `weight` says."""

    weight: Callable[[Example, str], float | None] = lambda _, __: 0.0

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        for example, answers in asked:
            control = right("\n".join(turn.text for turn in example.prompt), answers) if self.knows else None
            (self.asked if control is None else self.controls).append(example)
            for answer in answers:
                logprob = self.weight(example, answer) if control is None else -9.0 * (answer != control)
                yield Likelihood(example.id, answer, logprob, why="" if logprob is not None else "too long")

    def beginnings(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        return self.likelihoods(asked)


def models(model: Model, tmp_path: Path | None = None, purse: Purse | None = None, sees: Sees = "") -> Models:
    """What a judge is given that asks `model`."""
    cache = Cache(tmp_path / "judged.sqlite") if tmp_path else None
    return Models(MODEL, sees, cache, purse or Purse(), loaded={MODEL: model})


def pair(text: str, question: str = "Why?", finish: Finish = Finish.STOP, **settings: object) -> Pair:
    """An example and an answer to it."""
    example = Example(f"e:{question}", (Message("user", (question,)),), **settings)  # pyright: ignore[reportArgumentType]
    return example, Response(f"r:{question}:{text}", example.id, text, finish)
