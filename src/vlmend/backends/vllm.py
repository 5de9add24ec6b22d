"""vLLM in this process (extra `vllm`): prompts by the hundred, with pictures, an adapter, and prefixes kept.

Conversations go through vLLM's own chat door, as on its server; its prompts and pixels are its own affair.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from vlmend.backends import response_id
from vlmend.errors import ConfigError, DataError, ModelError, UsageError
from vlmend.models.engines import EngineSettings, Impl, engine, spelled, told
from vlmend.models.places import adapter_folder, check_base, locate, vllm_rank, weights_hash
from vlmend.reasoning import (
    KNOWN,
    THINK,
    Tags,
    check_budget,
    end_of,
    first_step,
    inside,
    second_step,
    told_apart,
)
from vlmend.servers.chat import ENDLESS, FINISHES, messages
from vlmend.servers.pictures import Caps
from vlmend.types import Decoding, Example, Finish, Message, Response, conversation_key, digest

WHOLE = Caps(max_bytes=2**40)
LOG = logging.getLogger("vlmend")
DOORS = ("_preprocess_chat", "_render_and_run_requests")  # of vLLM's LLM; there are no public ones
PROMPT_END = 16  # tokens, in which the opening of reasoning shows
LONGEST = 300  # characters of what an engine says of an error
HELLO = Example("control", (Message("user", ("Hello.",)),))


@dataclass(frozen=True)
class Vllm:
    """`vllm:MODEL` or `vllm:MODEL+ADAPTER`, MODEL being a folder, a Hugging Face id or `world`.

    `images` is the most pictures a prompt may have (0: what the first questions need). `window` prompts go to the
    engine together. Other names and meanings are those of vLLM's LLM; `hf_overrides`, `mm_processor_kwargs` and
    `limit_mm_per_prompt` are JSON objects. `gpu_memory_utilization` is 0.9, or 0.3 of the memory of a processor.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    revision: str | None = None
    images: int = 0
    window: int = 256
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    limit_mm_per_prompt: str = ""
    hf_overrides: str = ""
    mm_processor_kwargs: str = ""
    model_impl: Impl = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if min(self.window, self.tensor_parallel_size) < 1 or self.images < 0:
            raise ConfigError("window and tensor_parallel_size are at least 1, images at least 0")
        _ = self._settings

    @cached_property
    def _settings(self) -> EngineSettings:
        return EngineSettings(
            self.max_model_len, self.gpu_memory_utilization, self.limit_mm_per_prompt, self.hf_overrides,
            self.mm_processor_kwargs, self.model_impl,
        )  # fmt: skip

    @cached_property
    def _folders(self) -> tuple[str, str]:
        name, _, adapter = self.model.partition("+")
        return locate(name), str(adapter_folder(adapter).absolute()) if adapter else ""

    @cached_property
    def fingerprint(self) -> str:
        """Identity of weights, adapter, precision, what is overridden, and vLLM's version; memory is no part of it."""
        adapter = self._folders[1]
        added = weights_hash(adapter, None) if adapter else ""
        decides = [self._settings.decides] if self._settings.decides else []
        return digest("vllm", self._weights, added, self.dtype, None, engine()[1] or "not installed", *decides)

    @cached_property
    def _weights(self) -> str:
        return weights_hash(self._folders[0], self.revision)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What there is to know about the adapter and about control tokens in user text.

        Raises ModelError for an adapter that was tuned on other weights.
        """
        return tuple(filter(None, (self._adapter_note, spelled(self._folders[0], self.trust_remote_code))))

    @cached_property
    def _adapter_note(self) -> str:
        name, _, adapter = self.model.partition("+")
        return check_base(adapter_folder(adapter), self._weights, name) if adapter else ""

    @property
    def ran_on(self) -> str:
        """vLLM and its version."""
        return told()

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Responses in groups of `window`. What vLLM refuses (too long, a broken picture) is a failed response."""
        check_budget(decoding)
        if decoding.num_beams > 1 or decoding.no_repeat_ngram_size:
            raise ConfigError("vllm: num_beams and no_repeat_ngram_size cannot be kept")
        most = max((len(e.images) for e in examples), default=0)
        engine = self._started(most)
        if decoding.thinking_budget and not all(hasattr(engine, door) for door in DOORS):
            raise UsageError(
                f"thinking_budget {decoding.thinking_budget}: {told()} has no way to go on behind given tokens that is"
                " known here; that of vLLM 0.32 is"
            )
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
        if self.tensor_parallel_size == 1:
            # in this process: what goes wrong says so here, and a killed run leaves no other process behind
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ModelError(f"vllm is not installed: pip install 'vlmend[vllm]' ({error})") from error
        folder, adapter = self._folders
        if self._adapter_note:
            LOG.warning(self._adapter_note)
        settings = self._settings.arguments(limit)
        if adapter:
            settings |= {"enable_lora": True, "max_lora_rank": vllm_rank(adapter_folder(adapter))}
        try:
            return vllm.LLM(
                folder, dtype=self.dtype, revision=self.revision, trust_remote_code=self.trust_remote_code,
                tensor_parallel_size=self.tensor_parallel_size, **settings,
            )  # fmt: skip
        except Exception as error:
            raise ModelError(f"vllm does not start with {self.model}: {_line(error)}{_setting(error)}") from error

    def _answer(self, engine: Any, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Answers to all; where that fails, to each half, down to one alone, so that none spoils the others."""
        started = time.perf_counter()
        chats: list[tuple[Example, Any]] = []
        for example in examples:
            try:
                chats.append((example, messages(example.prompt, WHOLE)[0]))
            except DataError as error:
                yield from self._failed(example, decoding, str(error))
        if not chats:
            return
        asked = [example for example, _ in chats]
        try:
            outputs = self._outputs(engine, chats, decoding)
        except Exception as error:  # an engine's own, of many kinds and of no common base
            if _amid(engine):
                raise ModelError(f"vllm failed amid computing, and answers no more: {_line(error)}") from error
            if len(asked) > 1:
                half = len(asked) // 2
                yield from self._answer(engine, asked[:half], decoding)
                yield from self._answer(engine, asked[half:], decoding)
            else:
                self._refuse_dead(engine, error)
                yield from self._failed(asked[0], decoding, _line(error))
            return
        self.__dict__["_answered"] = True
        seconds = (time.perf_counter() - started) / len(asked) / decoding.num_return_sequences
        for example, output in zip(asked, outputs, strict=True):
            yield from self._said(engine, example, output, decoding, seconds)

    def _chat(self, engine: Any, chats: Sequence[Any], how: Sequence[Any]) -> list[Any]:
        return engine.chat(list(chats), list(how), use_tqdm=False, lora_request=self._lora())

    def _outputs(self, engine: Any, chats: Sequence[tuple[Example, Any]], decoding: Decoding) -> list[_Output]:
        """What is said to each; of a response that is inside its reasoning when the budget is spent, what follows it.

        One that is not goes on as if there were no budget: it is asked for again, whole.
        """

        def asked(places: Sequence[int], how: Decoding) -> list[_Output]:
            some = [chats[place] for place in places]
            found = self._chat(engine, [chat for _, chat in some], [_sampling(example, how) for example, _ in some])
            return [_Output.of(output) for output in found]

        everywhere = range(len(chats))
        if not decoding.thinking_budget:
            return asked(everywhere, decoding)
        outputs, tokenizer = asked(everywhere, first_step(decoding)), engine.get_tokenizer()
        hurried: dict[tuple[int, int], list[int]] = {}
        longer: list[tuple[int, int]] = []
        for place, output in enumerate(outputs):
            for turn, answer in output.answers.items():
                if answer.reason != "length":
                    continue
                tags = inside(tokenizer.decode(answer.ids), THINK, _begun(tokenizer, output.prompt))
                if tags is None:
                    longer.append((place, turn))
                else:
                    mark = tokenizer(end_of(tags), add_special_tokens=False)["input_ids"]
                    hurried[place, turn] = [*answer.ids, *mark]
        again = list(dict.fromkeys(place for place, _ in longer))
        whole = dict(zip(again, asked(again, replace(decoding, thinking_budget=0)) if again else (), strict=True))
        for place, turn in longer:
            outputs[place].answers[turn] = whole[place].answers[turn]
        for (place, turn), answer in self._behind(engine, chats, hurried, decoding).items():
            outputs[place].answers[turn] = answer
        return outputs

    def _behind(
        self, engine: Any, chats: Sequence[tuple[Example, Any]], said: Mapping[tuple[int, int], list[int]],
        decoding: Decoding,
    ) -> dict[tuple[int, int], _Answer]:  # fmt: skip
        """Answers whose first tokens are given, by prompt and number: all their tokens."""
        room = decoding.max_new_tokens
        full = {key: _Answer("", ids[:room], "length", hurried=True) for key, ids in said.items() if len(ids) >= room}
        open_ = {key: ids for key, ids in said.items() if key not in full}
        how = [
            _sampling(chats[place][0], second_step(decoding, len(ids), decoding.first_sample + turn))
            for (place, turn), ids in open_.items()
        ]
        found = self._continued(engine, [(chats[place][1], ids) for (place, _), ids in open_.items()], how)
        for (key, ids), output in zip(open_.items(), found, strict=True):
            [rest] = output.outputs
            full[key] = _Answer("", [*ids, *rest.token_ids], str(rest.finish_reason), hurried=True)
        decode = engine.get_tokenizer().decode
        return {key: replace(one, text=decode(one.ids, skip_special_tokens=True)) for key, one in full.items()}

    def _continued(self, engine: Any, given: Sequence[tuple[Any, list[int]]], how: Sequence[Any]) -> list[Any]:
        """What vLLM says behind prompts and the first tokens of answers to them.

        Prompts are rendered as those of its chats are, pictures included, and have the tokens put behind them. It has
        no public door for that.
        """
        if not given:
            return []
        from vllm import RequestOutput  # pyright: ignore[reportMissingImports]

        def prompts() -> Iterator[Any]:
            for chat, ids in given:
                [prompt] = engine._preprocess_chat([chat])
                prompt["prompt_token_ids"] = [*prompt["prompt_token_ids"], *ids]
                prompt.pop("prompt", None)
                yield prompt

        return engine._render_and_run_requests(
            prompts=prompts(), params=list(how), output_type=RequestOutput, use_tqdm=False,
            lora_requests=[self._lora()] * len(given),
        )  # fmt: skip

    def _refuse_dead(self, engine: Any, error: Exception) -> None:
        """Raise ModelError where not only this prompt is at fault: something harmless is not answered either.

        An engine that answered before and says itself what is wrong with a prompt is well.
        """
        if self.__dict__.get("_answered") and _of_the_prompt(error):
            return
        try:
            self._chat(
                engine, [[{"role": "user", "content": "Hello."}]], [_sampling(HELLO, Decoding(max_new_tokens=1))]
            )
        except Exception:  # noqa: BLE001  # as above
            raise ModelError(f"vllm answers nothing any more: {_line(error)}") from error

    def _failed(self, example: Example, decoding: Decoding, why: str) -> Iterator[Response]:
        for sample in decoding.samples:
            yield self._response(example, decoding, sample, Finish.FAILED, why=why)

    def _said(
        self, engine: Any, example: Example, output: _Output, decoding: Decoding, seconds: float
    ) -> Iterator[Response]:
        for turn, sample in enumerate(decoding.samples):
            answer = output.answers.get(turn)
            if answer is None:
                yield self._response(example, decoding, sample, Finish.FAILED, why="vllm gave fewer answers than asked")
                continue
            finish = FINISHES.get(answer.reason, Finish.FAILED)
            why = f"vllm ended the answer with {answer.reason!r}" if finish is Finish.FAILED else ""
            response = self._response(
                example, decoding, sample, finish, answer.text, why, len(answer.ids), seconds, len(output.prompt)
            )
            response = replace(response, hurried=answer.hurried)
            yield told_apart(response, begun=_begun(engine.get_tokenizer(), output.prompt))

    def _response(
        self, example: Example, decoding: Decoding, sample: int, finish: Finish, text: str = "", why: str = "",
        tokens: int = 0, seconds: float = 0.0, prompt_tokens: int = 0,
    ) -> Response:  # fmt: skip
        name = response_id(self.fingerprint, example, decoding, sample)
        return Response(
            name, example.id, text.strip(), finish, tokens, seconds, f"vllm:{self.model}", why, sample,
            prompt_tokens=prompt_tokens,
        )  # fmt: skip

    def _lora(self) -> Any:
        adapter = self._folders[1]
        if not adapter:
            return None
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        return LoRARequest("adapter", 1, adapter)


@dataclass(frozen=True)
class _Answer:
    """What was said, with all its tokens and why it ended there."""

    text: str
    ids: Sequence[int]
    reason: str
    hurried: bool = False


@dataclass(frozen=True)
class _Output:
    """Answers to one prompt by their number, and the prompt's tokens."""

    answers: dict[int, _Answer]
    prompt: Sequence[int]

    @classmethod
    def of(cls, output: Any) -> _Output:
        """What vLLM's own object says."""
        found = {one.index: _Answer(one.text, list(one.token_ids), str(one.finish_reason)) for one in output.outputs}
        return cls(found, list(output.prompt_token_ids or ()))


def _begun(tokenizer: Any, prompt: Sequence[int]) -> Tags | None:
    """The tags of reasoning that the prompt has opened at its end."""
    end = tokenizer.decode(prompt[-PROMPT_END:]).rstrip()
    return next((tags for tags in KNOWN if end.endswith(tags.opening)), None)


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
        settings["stop"] = list(ENDLESS)
    return SamplingParams(
        n=decoding.num_return_sequences, max_tokens=decoding.max_new_tokens, min_tokens=decoding.min_new_tokens,
        repetition_penalty=decoding.repetition_penalty, **settings,
    )  # fmt: skip


def _amid(engine: Any) -> bool:
    """Whether questions are left in the engine, which nobody can go on with: it failed while it computed.

    What is wrong with a prompt is found before, and those that were put in with it are taken out again.
    """
    inner = getattr(engine, "llm_engine", None)
    return inner is not None and bool(inner.has_unfinished_requests())


def _of_the_prompt(error: Exception) -> bool:
    """Whether an error is about what was asked: bad values, or what vLLM (from 0.3x on) calls a client's error."""
    ours = {kind.__name__ for kind in type(error).__mro__} & {"VLLMClientError", "VLLMValidationError"}
    return isinstance(error, ValueError | TypeError) or bool(ours)


def _line(error: BaseException) -> str:
    """What an error says, as one line: of those of pydantic, the complaint alone."""
    found = re.search(r"(?:Value|Assertion) error, (.*?)(?: \[type=|\n|$)", str(error), flags=re.DOTALL)
    text = " ".join((found[1] if found else str(error)).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


SETTINGS = (  # what vLLM complains of, and the setting that helps
    (r"memory|KV cache|OutOfMemory|out of memory", "gpu_memory_utilization=… (a share) or max_model_len=…"),
    (r"max_model_len|max seq|model length|max_position", "max_model_len=…"),
    (r"limit_mm_per_prompt|multi-?modal|image", "images=… or limit_mm_per_prompt=…"),
    (r"dtype|bfloat16|float16", "dtype=…"),
    (r"lora", "an adapter that vLLM loads, or `vlmend merge`"),
    (r"architecture|no vLLM implementation|not supported|KeyError", "model_impl=transformers or hf_overrides=…"),
    (r"trust_remote_code|custom code", "trust_remote_code=yes"),
    (
        r"no module or parameter|shape|size mismatch|dimension|unexpected|vision_feature",
        "hf_overrides=… or model_impl=transformers",
    ),
)


def _setting(error: BaseException) -> str:
    """The setting that is about what an error complains of."""
    text = f"{type(error).__name__} {error}"
    found = next((setting for mark, setting in SETTINGS if re.search(mark, text, flags=re.IGNORECASE)), "")
    return f". The setting for that: {found}" if found else ""


plugin = Vllm
