"""vLLM in this process (extra `vllm`): prompts by the hundred, with pictures, an adapter, and prefixes kept.

Conversations go through vLLM's own chat door, as on its server; its prompts and pixels are its own affair.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from vlmend.backends import response_id
from vlmend.errors import ConfigError, DataError, ModelError
from vlmend.models.places import adapter_folder, check_base, locate, vllm_rank, weights_hash
from vlmend.reasoning import told_apart
from vlmend.servers.chat import FINISHES, messages
from vlmend.servers.pictures import Caps
from vlmend.types import Decoding, Example, Finish, Response, conversation_key, digest

WHOLE = Caps(max_bytes=2**40)


@dataclass(frozen=True)
class Vllm:
    """`vllm:MODEL` or `vllm:MODEL+ADAPTER`, MODEL being a folder, a Hugging Face id or `world`.

    `images` is the most pictures a prompt may have (0: what the first questions need). `window` prompts go to the
    engine together. Other names and meanings are those of vLLM's LLM.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    revision: str | None = None
    images: int = 0
    window: int = 256
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if min(self.window, self.tensor_parallel_size) < 1 or self.images < 0:
            raise ConfigError("window and tensor_parallel_size are at least 1, images at least 0")

    @cached_property
    def _folders(self) -> tuple[str, str]:
        name, _, adapter = self.model.partition("+")
        return locate(name), str(adapter_folder(adapter).absolute()) if adapter else ""

    @cached_property
    def fingerprint(self) -> str:
        """Identity of weights, adapter, precision and vLLM's version."""
        adapter = self._folders[1]
        added = weights_hash(adapter, None) if adapter else ""
        return digest("vllm", self._weights, added, self.dtype, self.max_model_len, _version())

    @cached_property
    def _weights(self) -> str:
        return weights_hash(self._folders[0], self.revision)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What there is to know about the adapter. Raises ModelError for one that was tuned on other weights."""
        name, _, adapter = self.model.partition("+")
        found = check_base(adapter_folder(adapter), self._weights, name) if adapter else ""
        return (found,) if found else ()

    @property
    def ran_on(self) -> str:
        """vLLM and its version."""
        return f"vllm {_version()}"

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Responses in groups of `window`. What vLLM refuses (too long, a broken picture) is a failed response."""
        if decoding.num_beams > 1 or decoding.no_repeat_ngram_size:
            raise ConfigError("vllm: num_beams and no_repeat_ngram_size cannot be kept")
        most = max((len(e.images) for e in examples), default=0)
        engine = self._started(most)
        for start in range(0, len(examples), self.window):
            yield from self._answer(engine, examples[start : start + self.window], decoding)

    def _started(self, images: int) -> Any:
        """The engine; its memory is laid out for a number of pictures per prompt when it starts."""
        engine = self.__dict__.get("_engine")
        if engine is None:
            limit = self.__dict__["_limit"] = max(1, self.images or images)
            engine = self.__dict__["_engine"] = self._start(limit)
        if images > (limit := self.__dict__["_limit"]):
            raise ModelError(f"vllm: started for {limit} pictures a prompt, but one has {images}; say images={images}")
        return engine

    def _start(self, limit: int) -> Any:
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ModelError(f"vllm is not installed: pip install 'vlmend[vllm]' ({error})") from error
        folder, adapter = self._folders
        for note in self.notes:
            logging.getLogger("vlmend").warning(note)
        settings: dict[str, Any] = {"max_model_len": self.max_model_len} if self.max_model_len else {}
        if adapter:
            settings |= {"enable_lora": True, "max_lora_rank": vllm_rank(adapter_folder(adapter))}
        return vllm.LLM(
            folder, dtype=self.dtype, revision=self.revision, trust_remote_code=self.trust_remote_code,
            tensor_parallel_size=self.tensor_parallel_size, gpu_memory_utilization=self.gpu_memory_utilization,
            limit_mm_per_prompt={"image": limit}, enable_prefix_caching=True, generation_config="vllm", **settings,
        )  # fmt: skip

    def _answer(self, engine: Any, examples: Sequence[Example], decoding: Decoding) -> list[Response]:
        """Answers to all; where that fails, each is asked alone, so that one cannot spoil the others."""
        started = time.perf_counter()
        try:
            chats = [messages(e.prompt, WHOLE)[0] for e in examples]
            outputs: list[Any] = engine.chat(
                chats, [_sampling(e, decoding) for e in examples], use_tqdm=False, lora_request=self._lora()
            )
        except (DataError, ValueError, TypeError) as error:
            if len(examples) > 1:
                return [response for e in examples for response in self._answer(engine, [e], decoding)]
            why = " ".join(str(error).split())
            return [self._response(examples[0], decoding, n, Finish.FAILED, why=why) for n in decoding.samples]
        seconds = (time.perf_counter() - started) / len(examples) / decoding.num_return_sequences
        return [
            response
            for example, output in zip(examples, outputs, strict=True)
            for response in self._said(example, output, decoding, seconds)
        ]

    def _said(self, example: Example, output: Any, decoding: Decoding, seconds: float) -> Iterator[Response]:
        given = {answer.index: answer for answer in output.outputs}
        for turn, sample in enumerate(decoding.samples):
            answer = given.get(turn)
            if answer is None:
                yield self._response(example, decoding, sample, Finish.FAILED, why="vllm gave fewer answers than asked")
                continue
            finish = FINISHES.get(str(answer.finish_reason), Finish.FAILED)
            why = f"vllm ended the answer with {answer.finish_reason!r}" if finish is Finish.FAILED else ""
            yield self._response(
                example, decoding, sample, finish, answer.text, why, len(answer.token_ids), seconds,
                len(output.prompt_token_ids or ()),
            )  # fmt: skip

    def _response(
        self, example: Example, decoding: Decoding, sample: int, finish: Finish, text: str = "", why: str = "",
        tokens: int = 0, seconds: float = 0.0, prompt_tokens: int = 0,
    ) -> Response:  # fmt: skip
        name = response_id(self.fingerprint, example, decoding, sample)
        response = Response(
            name, example.id, text.strip(), finish, tokens, seconds, f"vllm:{self.model}", why, sample,
            prompt_tokens=prompt_tokens,
        )  # fmt: skip
        return told_apart(response)

    def _lora(self) -> Any:
        adapter = self._folders[1]
        if not adapter:
            return None
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        return LoRARequest("adapter", 1, adapter)


def _sampling(example: Example, decoding: Decoding) -> Any:
    """Every setting said, so that none comes from the model's files; a seed of each question's own."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.sampling_params import StructuredOutputsParams  # pyright: ignore[reportMissingImports]

    settings: dict[str, Any] = {"temperature": 0.0}
    if decoding.do_sample:
        seed = int(digest(decoding.seed, conversation_key(example.prompt), decoding.first_sample)[:8], 16)
        settings = {
            "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k, "seed": seed,
        }  # fmt: skip
    if decoding.schema:
        settings["structured_outputs"] = StructuredOutputsParams(json=json.loads(decoding.schema))
    return SamplingParams(
        n=decoding.num_return_sequences, max_tokens=decoding.max_new_tokens, min_tokens=decoding.min_new_tokens,
        repetition_penalty=decoding.repetition_penalty, **settings,
    )  # fmt: skip


def _version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return "not installed"


plugin = Vllm
