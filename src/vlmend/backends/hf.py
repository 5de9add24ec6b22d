"""Local generation with transformers: what prompts share is done once, every decoding field is explicit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from vlmend.backends import response_id
from vlmend.config import ModelConfig
from vlmend.errors import ConfigError, DataError, ModelError
from vlmend.models.places import locate
from vlmend.reasoning import KNOWN, MARKS, Tags, end_of, inside, tags_of, told_apart
from vlmend.types import Backend, Decoding, Example, Finish, Likelihood, Response, Victim, digest

if TYPE_CHECKING:
    from vlmend.models.generate import Answer, Engine
    from vlmend.models.load import Loaded


# in a spec: ?reasoning=<think>,</think>
Pair = Annotated[tuple[str, str], BeforeValidator(lambda v: tuple(v.split(",")) if isinstance(v, str) else v)]


@dataclass(frozen=True)
class Hf:
    """A model that transformers loads: a Hugging Face id, a folder, `world`, or any of them `+ADAPTER`.

    The model is loaded when it is first needed. Names and meanings are those of the recipe's section `model`.
    `batch_size` prompts at most, and `batch_tokens` tokens (pictures, padding and what is still to be said included),
    are worked on at a time. `share_prefix` feeds what prompts begin with once. `features_mb` bounds what is kept of
    the vision tower's output. What stands between the two `reasoning` tags is not part of an answer's text.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: int = 64
    batch_tokens: int = 16_384
    share_prefix: bool = True
    features_mb: int = 1024
    reasoning: Pair = ("<think>", "</think>")
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"] = "auto"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("batch_tokens", 1), ("features_mb", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not all(self.reasoning):
            raise ConfigError(f"reasoning needs two tags that are not empty, got {self.reasoning}")
        locate(re.split(r"[+?]", self.model, maxsplit=1)[0])  # a wrong name is told before anything is imported

    @property
    def _config(self) -> ModelConfig:
        return ModelConfig.from_spec(
            self.model,
            dtype=self.dtype,
            device=self.device,
            attn_implementation=self.attn_implementation,
            quantization=self.quantization,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
        )

    def check(self) -> None:
        """Raise ModelError where the model's files say that it cannot be loaded; nothing is loaded for it."""
        from vlmend.models.load import check

        if not self.ready:
            check(self._config)

    @cached_property
    def _loaded(self) -> Loaded:
        from vlmend.models.load import load

        return load(self._config)

    @cached_property
    def _engine(self) -> Engine:
        from vlmend.models.generate import Engine

        return Engine(
            self._loaded, batch_size=self.batch_size, batch_tokens=self.batch_tokens, share_prefix=self.share_prefix,
            features_mb=self.features_mb, end=self._end,
        )  # fmt: skip

    @property
    def ready(self) -> bool:
        """Whether the model is loaded; that takes from seconds to minutes."""
        return "_loaded" in vars(self)

    @property
    def fingerprint(self) -> str:
        """Identity of weights, adapter, processor, template and precision."""
        return self._loaded.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to know about the model's adapter."""
        return self._loaded.notes

    @property
    def ran_on(self) -> str:
        """Name of the device the model is on, and its precision."""
        import torch

        model = self._loaded.model
        name = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)
        return f"{name}, {str(model.dtype).removeprefix('torch.')}"

    def wording(self, examples: Sequence[Example]) -> dict[str, int]:
        """What the chat template does with prompts that is to be known, and with how many; errors come when asked."""
        notes = Counter[str]()
        for example in examples:
            with suppress(DataError, ModelError):
                notes.update(self._loaded.codec.check([example], answered=False))
        return dict(notes)

    def victim(self) -> Victim:
        """The model, for attacks that see into it."""
        from vlmend.models.victim import LocalVictim

        return LocalVictim(self._loaded)

    def changed(self, name: str, during: Callable[[Any], AbstractContextManager[None]]) -> Backend:
        """The same model, changed while it answers."""
        return _Changed(self, name, lambda: during(self._loaded))

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Responses batch by batch, longest prompts first, so that what does not fit shows at once.

        What cannot be encoded (a broken picture, a prompt that is too long) is a failed response. A batch that does
        not fit on the device is halved, down to one row, and later ones stay as small.
        """
        for answer in self._engine.answers(examples, decoding):
            yield self._response(answer, decoding)

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        """One per example and answer, batch by batch; the prompt is fed once for all answers to it."""
        yield from self._likelihoods(asked, begun=False)

    def beginnings(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        """The same of texts right behind the prompt, whatever the chat template does with answers."""
        yield from self._likelihoods(asked, begun=True)

    def _likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]], *, begun: bool) -> Iterator[Likelihood]:
        for found in self._engine.likelihoods(asked, begun=begun):
            yield Likelihood(
                found.example.id, found.answer, found.logprob, found.tokens, found.why, found.by_token, found.greedy
            )

    def _response(self, answer: Answer, decoding: Decoding) -> Response:
        example, sample = answer.wanted
        if answer.ids is None:
            name = response_id(self.fingerprint, example, decoding, sample)
            return Response(name, example.id, "", Finish.FAILED, model=self.model, why=answer.why, sample=sample)
        codec = self._loaded.codec
        response = Response(
            id=response_id(self.fingerprint, example, decoding, sample),
            example_id=example.id,
            text=codec.decode(answer.ids, (*self.reasoning, *MARKS)),
            finish=Finish.STOP if answer.ids[-1] in codec.eos_ids else Finish.LENGTH,
            tokens=len(answer.ids),
            seconds=answer.seconds,
            model=self.model,
            sample=sample,
            prompt_tokens=answer.prompt_tokens,
            hurried=bool(decoding.thinking_budget and self._end(answer.ids[: decoding.thinking_budget])),
        )
        return told_apart(response, tags_of(*self.reasoning), self._begun)

    def _end(self, said: Sequence[int]) -> Sequence[int]:
        """What ends the reasoning that an answer of these tokens is in; nothing where it is in none."""
        codec, own = self._loaded.codec, tags_of(*self.reasoning)
        if any(token in codec.eos_ids for token in said):
            return ()
        tags = inside(codec.decode(said, (*self.reasoning, *MARKS)), own, self._begun)
        return codec.tokenizer(end_of(tags), add_special_tokens=False)["input_ids"] if tags else ()

    @cached_property
    def _begun(self) -> Tags | None:
        """The tags of the reasoning that the chat template opens itself."""
        opens = self._loaded.codec.opens_answers_with
        return next((tags for tags in (tags_of(*self.reasoning), *KNOWN) if opens(tags.opening)), None)


@dataclass(frozen=True)
class _Changed:
    """The model of another backend, which is changed only for as long as it computes."""

    plain: Hf
    name: str
    during: Callable[[], AbstractContextManager[None]]

    @property
    def fingerprint(self) -> str:
        """That of the model, and what changes it."""
        return digest(self.plain.fingerprint, "changed", self.name)

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """As the plain model does."""
        asked = [replace(example, id=str(place)) for place, example in enumerate(examples)]
        answers = self.plain.generate(asked, decoding)
        while True:
            with self.during():
                response = next(answers, None)
            if response is None:
                return
            example = examples[int(response.example_id)]
            name = response_id(self.fingerprint, example, decoding, response.sample)
            yield replace(response, id=name, example_id=example.id)


plugin = Hf
