"""The model's own answers to prompts, and passes made of the very tokens it said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vlmend.errors import DataError, ModelError
from vlmend.models.codec import Batch, Codec
from vlmend.models.generate import Engine
from vlmend.models.load import Loaded
from vlmend.models.merged import merged
from vlmend.models.pixels import LastPictures
from vlmend.models.prefix import feed, plain
from vlmend.models.prompts import said, shown, together
from vlmend.objectives import OnPolicy
from vlmend.train.precision import computing
from vlmend.train.scoring import Micro, Part
from vlmend.train.speed import Ways
from vlmend.types import Decoding, Example, Role, Rollout, digest

TOKENS = 16_384  # that are sampled side by side, padding and what is still to be said included


@dataclass(frozen=True)
class Sample:
    """One answer, by its `number` in the step: to which example (`group` numbers them), and its tokens.

    Of a server that sampled it: the prompt's tokens as it read them, and its log-probabilities where they are those of
    the policy.
    """

    number: int
    group: int
    weight: float
    ids: tuple[int, ...]
    rollout: Rollout
    prompt_ids: tuple[int, ...] = ()
    told: tuple[float, ...] = ()


@dataclass(frozen=True)
class Account:
    """What every process knows of an answer that one of them sampled: all that credit and means are made of.

    `expected` is what the request was to get; penalty (T,) and values (T, H) are those of its tokens (see `Drawn`).
    """

    number: int
    group: int
    role: Role
    expected: str
    weight: float
    reward: float
    cost: float | None
    penalty: torch.Tensor
    values: torch.Tensor | None

    @property
    def tokens(self) -> int:
        """How many it has."""
        return len(self.penalty)


@dataclass
class Sampler:
    """Draws answers from the model as it is, every token from softmax(logits / temperature) without banned ones.

    What is drawn follows from seed, step, prompt and the answer's number alone, so that a run that was stopped goes on
    with the same answers.
    """

    loaded: Loaded
    settings: OnPolicy
    ways: Ways
    seed: int

    def __post_init__(self) -> None:
        self._engine = Engine(
            self.loaded,
            batch_size=TOKENS,
            batch_tokens=TOKENS,
            share_prefix=True,
            features_mb=256,
            banned=self.loaded.codec.unspeakable,
        )

    def ready(self) -> None:
        """Nothing is to be done before a step: what samples is the model itself."""

    def leave(self) -> None:
        """Nor after the last."""

    def __call__(
        self, examples: Sequence[Example], weights: Sequence[float], step: int, groups: Sequence[int]
    ) -> list[Sample]:
        """`samples` answers to each example, in order; `groups` are the examples' places in the step.

        Raises DataError or ModelError where there is none to get.
        """
        decoding = drawing(self.settings, int(digest("rollouts", self.seed, step)[:8], 16))
        model = self.loaded.model
        training = model.training
        model.eval()
        place = {id(example): number for number, example in enumerate(examples)}
        found: dict[int, Sample] = {}
        with merged(model), computing(model.device, self.ways.autocast):
            for answer in self._engine.answers(examples, decoding):
                if not answer.ids:
                    raise ModelError(f"no answer to example {answer.wanted.example.id!r} can be sampled: {answer.why}")
                at = place[id(answer.wanted.example)]
                number = groups[at] * self.settings.samples + answer.wanted.sample
                rollout = heard(self.loaded.codec, answer.wanted.example, answer.ids)
                found[number] = Sample(number, groups[at], weights[at], tuple(answer.ids), rollout)
        model.train(training)
        return [found[key] for key in sorted(found)]


def drawing(settings: OnPolicy, seed: int) -> Decoding:
    """How answers are drawn, whoever draws them."""
    return Decoding(
        max_new_tokens=settings.max_new_tokens,
        do_sample=True,
        temperature=settings.temperature,
        top_p=settings.top_p,
        num_return_sequences=settings.samples,
        seed=seed,
    )


def heard(codec: Codec, example: Example, ids: Sequence[int]) -> Rollout:
    """An answer as rewards hear it."""
    return Rollout(example, codec.decode(ids), len(ids), ids[-1] in codec.eos_ids)


@dataclass
class Writer:
    """Makes passes of sampled answers; their tokens are those that were sampled, never read again from text."""

    model: Any
    codec: Codec
    ways: Ways
    max_length: int | None = None

    def __post_init__(self) -> None:
        self._pictures = LastPictures()
        self._asked: dict[int, tuple[Example, Batch]] = {}

    def begin(self) -> None:
        """Forget the prompts of the last step."""
        self._asked.clear()

    def __call__(self, samples: Sequence[Sample], *, compared: bool) -> Iterator[Micro]:
        """Passes of these answers: one where prompts can be shared or packed, else one for each answer."""
        parts = [samples] if self.ways.apart else [[sample] for sample in samples]
        for part in parts:
            yield self._pass(part, compared)

    def _pass(self, samples: Sequence[Sample], compared: bool) -> Micro:
        made = [said(self.model, self.codec, self._prompt(sample), sample.ids) for sample in samples]
        for sample, (_, batch) in zip(samples, made, strict=True):
            self._check_length(sample, batch)
        weights = tuple(sample.weight for sample in samples)
        if self.ways.apart:
            prompts = [prompt for prompt, _ in made]
            fed = feed(prompts, self.codec.pad_id, share=self.ways.share, pack=self.ways.pack)
            batch = together([batch for _, batch in made])
        else:
            batch = made[0][1]
            fed = plain(batch)
        micro = Micro(batch, weights, (Part(tuple(range(len(samples))), fed),))
        return replace(micro, compared=micro) if compared else micro

    def _prompt(self, sample: Sample) -> Batch:
        example = sample.rollout.example
        known = self._asked.get(id(example))
        if known is None:
            opened = self._pictures.opened(example)
            with self._pictures.remembered(self.codec.processor):
                known = self._asked[id(example)] = (example, self.codec.encode_prompts([opened]))
        if sample.prompt_ids:
            self._check_prompt(sample, known[1])
        return known[1]

    def _check_prompt(self, sample: Sample, batch: Batch) -> None:
        """What a server sampled an answer to has to be what the answer is learned after."""
        ours = batch.inputs["input_ids"][0][batch.inputs["attention_mask"][0].bool()].tolist()
        if ours != list(sample.prompt_ids):
            at = next((i for i, (a, b) in enumerate(zip(ours, sample.prompt_ids, strict=False)) if a != b), None)
            where = "one is the beginning of the other" if at is None else f"they differ from token {at} on"
            raise ModelError(
                f"the server reads the prompt of example {sample.rollout.example.id!r} as {len(sample.prompt_ids)}"
                f" tokens, and it is {len(ours)} here ({where}): the model served is another, or its template or"
                " picture processor is"
            )

    def _check_length(self, sample: Sample, batch: Batch) -> None:
        length = batch.labels.shape[1]
        if self.max_length is not None and length > self.max_length:
            raise DataError(
                f"example {sample.rollout.example.id!r} with an answer of {len(sample.ids)} tokens has {length} tokens,"
                f" and train.max_length is {self.max_length}"
            )


def by_prompt(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Answers to `size` prompts at a time, those that show the same pictures side by side."""
    of: dict[int, list[Sample]] = {}
    for sample in samples:
        of.setdefault(sample.group, []).append(sample)
    order = sorted(of, key=lambda group: (shown(of[group][0].rollout.example), group))
    for start in range(0, len(order), size):
        yield [sample for group in order[start : start + size] for sample in of[group]]


def spread(lengths: Sequence[int]) -> torch.Tensor:
    """(N,) the answer each of its tokens belongs to."""
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.long))
