"""Local generation with transformers: batched, left-padded, sorted by length, every decoding field explicit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from vlmend.backends import response_id
from vlmend.config import ModelConfig
from vlmend.errors import ConfigError, DataError, ModelError
from vlmend.types import Decoding, Example, Finish, Response, Victim, conversation_key, digest

if TYPE_CHECKING:
    from torch import Tensor

    from vlmend.models.codec import Batch
    from vlmend.models.load import Loaded


@dataclass(frozen=True)
class Hf:
    """A model that transformers loads: a Hugging Face id, a folder, `world`, or any of them `+ADAPTER`.

    The model is loaded when it is first needed. Names and meanings are those of the recipe's section `model`.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: int = 16
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"] = "auto"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")

    @cached_property
    def _loaded(self) -> Loaded:
        from vlmend.models.load import load

        return load(
            ModelConfig.from_spec(
                self.model,
                dtype=self.dtype,
                device=self.device,
                attn_implementation=self.attn_implementation,
                quantization=self.quantization,
                revision=self.revision,
                trust_remote_code=self.trust_remote_code,
            )
        )

    @property
    def fingerprint(self) -> str:
        """Identity of weights, adapter, processor, template and precision."""
        return self._loaded.fingerprint

    @property
    def ran_on(self) -> str:
        """Name of the device the model is on, and its precision."""
        import torch

        model = self._loaded.model
        name = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)
        return f"{name}, {str(model.dtype).removeprefix('torch.')}"

    def victim(self) -> Victim:
        """The model, for attacks that see into it."""
        from vlmend.models.victim import LocalVictim

        return LocalVictim(self._loaded)

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Responses batch by batch, longest prompts first, so that what does not fit shows at once.

        What cannot be encoded (a broken picture, a prompt that is too long) is a failed response. A batch that does
        not fit on the device is halved, down to one, and stays so.
        """
        import torch

        _configure(self._loaded, decoding)
        lengths = [self._loaded.codec.prompt_length(e) for e in examples]
        todo = [examples[i] for i in sorted(range(len(examples)), key=lambda i: (-lengths[i], i))]
        size = self.batch_size
        while todo:
            chunk = todo[:size]
            try:
                answered = self._answer(chunk, decoding)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                if len(chunk) > 1:
                    size = len(chunk) // 2
                    continue
                answered = [self._failed(chunk[0], decoding, "the device is out of memory at batch size 1")]
            yield from answered
            todo = todo[len(chunk) :]

    def _answer(self, examples: Sequence[Example], decoding: Decoding) -> list[Response]:
        started = time.perf_counter()
        batch, problems = self._encode(examples)
        failed = [self._failed(e, decoding, why) for e, why in problems]
        if batch is None:
            return failed
        answers = self._sample(batch, decoding).tolist()
        seconds = (time.perf_counter() - started) / len(answers)
        rows = zip(batch.examples, answers, strict=True)
        return [*failed, *(self._response(e, ids, seconds, decoding) for e, ids in rows)]

    def _encode(self, examples: Sequence[Example]) -> tuple[Batch | None, list[tuple[Example, str]]]:
        """The examples that can be encoded as one batch, and what is wrong with the others."""
        try:
            return self._loaded.codec.encode_prompts(examples), []
        except (DataError, ModelError) as error:
            if len(examples) == 1:
                return None, [(examples[0], str(error))]
        single = [self._encode([e]) for e in examples]
        good = [e for e, (batch, _) in zip(examples, single, strict=True) if batch is not None]
        problems = [problem for _, found in single for problem in found]
        return (self._loaded.codec.encode_prompts(good) if good else None), problems

    def _sample(self, batch: Batch, decoding: Decoding) -> Tensor:
        """(B, T) token ids of the answers."""
        import torch

        model: Any = self._loaded.model
        inputs = batch.to(model.device).inputs
        with torch.inference_mode():
            ids: Tensor = model.generate(**inputs, logits_processor=_sampler(batch.examples, decoding))
        return ids[:, inputs["input_ids"].shape[1] :]

    def _response(self, example: Example, ids: list[int], seconds: float, decoding: Decoding) -> Response:
        codec = self._loaded.codec
        end = next((i for i, token in enumerate(ids) if token in codec.eos_ids), None)
        return Response(
            id=response_id(self.fingerprint, example, decoding),
            example_id=example.id,
            text=codec.decode(ids),
            finish=Finish.LENGTH if end is None else Finish.STOP,
            tokens=len(ids) if end is None else end + 1,
            seconds=seconds,
            model=self.model,
        )

    def _failed(self, example: Example, decoding: Decoding, why: str) -> Response:
        try:
            name = response_id(self.fingerprint, example, decoding)
        except DataError:
            name = digest(self.fingerprint, "unreadable", example.id)
        return Response(name, example.id, "", Finish.FAILED, model=self.model, why=why)


def _configure(loaded: Loaded, decoding: Decoding) -> None:
    """Give the model a fresh generation config: what its file says about sampling must not leak into a protocol.

    `generate` fills whatever a passed config leaves open from the model's own, so it is the model's that is replaced.
    Sampling is switched off here even where it is asked for: `_sampler` draws.
    """
    from transformers import GenerationConfig

    if decoding.do_sample and decoding.num_beams > 1:
        raise ConfigError("do_sample and num_beams > 1 exclude each other")
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens or None,
        do_sample=False,
        num_beams=decoding.num_beams,
        repetition_penalty=decoding.repetition_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        eos_token_id=sorted(loaded.codec.eos_ids),
        pad_token_id=loaded.codec.pad_id,
        use_cache=True,
    )
    loaded.model.generation_config = config
    if loaded.has_adapter:
        loaded.model.get_base_model().generation_config = config


def _sampler(examples: Sequence[Example], decoding: Decoding) -> Any:
    """Nothing for greedy decoding; else temperature, top-k, top-p, and a draw of each example's own.

    The largest of logits + Gumbel noise is a sample from their softmax. Noise is seeded by the conversation, so that
    an answer depends neither on its neighbors in the batch nor on where a killed run went on.
    """
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    steps: list[Any] = []
    if not decoding.do_sample:
        return LogitsProcessorList(steps)
    seeds = [int(digest(decoding.seed, conversation_key(e.prompt))[:15], 16) for e in examples]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(input_ids: Tensor, scores: Tensor) -> Tensor:
        del input_ids
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in generators])
        gumbel = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
        return scores + gumbel.to(scores)

    if decoding.temperature != 1.0:
        steps.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k:
        steps.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1.0:
        steps.append(TopPLogitsWarper(decoding.top_p))
    return LogitsProcessorList([*steps, draw])


plugin = Hf
