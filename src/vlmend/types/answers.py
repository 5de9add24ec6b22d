"""What came back: how it was asked for, responses, likelihoods, verdicts, and the record of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from vlmend.types.examples import Example, Message


class Finish(StrEnum):
    """How a response ended. Only STOP and LENGTH are evidence about the model."""

    STOP = "stop"
    LENGTH = "length"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class Decoding:
    """Every setting that decides which tokens come out. Names are those of transformers' GenerationConfig.

    The answers to one prompt are numbered `samples`: `num_return_sequences` of them, from `first_sample`.
    `schema` is a JSON schema, as JSON text, that the answer has to fit; empty for free text. Servers keep to it as well
    as they can; local and scripted backends take no notice of it, so whoever asks checks the answer.
    `thinking_budget`: a response that is still inside its reasoning after so many tokens is given the end mark and goes
    on with its answer; 0 leaves it as long as it likes.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    do_sample: bool = False
    num_beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_return_sequences: int = 1
    seed: int = 0
    first_sample: int = 0
    schema: str = ""
    thinking_budget: int = 0

    @property
    def samples(self) -> range:
        """Numbers of the answers that are asked for."""
        return range(self.first_sample, self.first_sample + self.num_return_sequences)


@dataclass(frozen=True)
class Response:
    """What a model said. `id` hashes model, prompt, images, decoding and sample, so that nothing is asked twice.

    `sample` counts the answers to one prompt from 0. `tokens` are those of the answer, `reasoning` included, which is
    what the model said to itself before `text`. Behind a defence, `calls` says how often a model was asked for it, and
    tokens and seconds are those of all these calls. `hurried`: the budget for reasoning ran out, so that it was ended
    from outside.
    """

    id: str
    example_id: str
    text: str
    finish: Finish
    tokens: int = 0
    seconds: float = 0.0
    model: str = ""
    why: str = ""
    sample: int = 0
    reasoning: str = ""
    prompt_tokens: int = 0
    calls: int = 1
    hurried: bool = False

    @property
    def said(self) -> bool:
        """Whether there is anything to judge: a crash, a block or an empty answer says nothing about the model."""
        return self.finish in (Finish.STOP, Finish.LENGTH) and bool(self.text.strip())

    @property
    def silent(self) -> bool:
        """Whether the model was asked and ended without a word.

        There is nothing to judge, so it is unscored, except where a measure defines silence as an outcome: what is not
        answered is not covered, and no normal answer.
        """
        return self.finish is Finish.STOP and not self.text.strip()


@dataclass(frozen=True)
class Request:
    """What a model is asked, as whoever deploys it sees it: no id, no label, no reference answer.

    `decoding` asks for one answer, the one numbered `first_sample`.
    """

    prompt: tuple[Message, ...]
    decoding: Decoding

    @property
    def turn(self) -> Message:
        """The last turn."""
        return self.prompt[-1]


@dataclass(frozen=True)
class Screening:
    """What a judge, or a reward, is asked by a defence: a conversation, and what is to be said to it.

    An empty `answer` has the conversation itself looked at.
    """

    by: Literal["judge", "reward"]
    spec: str
    prompt: tuple[Message, ...]
    answer: str = ""


@dataclass(frozen=True)
class Rollout:
    """An answer that a model gave while it is tuned, to be rewarded: all it wrote, its reasoning and tags included.

    `finished` says that the model ended it itself, and was not cut off at the limit. `tokens` are those it wrote.
    """

    example: Example
    text: str
    tokens: int
    finished: bool


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a given answer to an example: log p(answer | prompt, pictures), natural logarithm.

    `logprob` sums over the answer's `tokens`, its end token not included; None where it could not be computed (`why`).
    `by_token` has the summands, and `greedy` says of each token whether it is the likeliest after those before it.
    """

    example_id: str
    answer: str
    logprob: float | None
    tokens: int = 0
    why: str = ""
    by_token: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a judge says of an answer. None means that it did not say: it is counted as unscored, never as "safe".

    Other questions than the three flags are answered in `labels`, by their name, or by the number `score` (see
    `vlmend.metrics.questions`).

    `scores` are further numbers by name, of a judge that measures several things at once.
    """

    judge: str
    response_id: str
    refused: bool | None = None
    harmful: bool | None = None
    correct: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    score: float | None = None
    why: str = ""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Record:
    """Example, response and verdicts together: the unit on disk and of every metric.

    `content` is the hash of the question before any attack, where it is known: two records with one id ask the same
    only if they agree in it. `judges` says by whose verdict a question is answered (see `metrics.questions`).
    """

    example: Example
    response: Response
    verdicts: tuple[Verdict, ...] = ()
    content: str = ""
    judges: Mapping[str, str] = field(default_factory=dict[str, str])

    def verdict(self, judge: str) -> Verdict | None:
        """The verdict of the named judge, if it gave one."""
        return next((v for v in self.verdicts if v.judge == judge), None)
