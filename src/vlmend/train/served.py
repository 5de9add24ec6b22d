"""Answers sampled by a server that is handed the adapter before every step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmend.backends.openai import Job, Openai
from vlmend.errors import ConfigError, ModelError
from vlmend.models.load import Loaded
from vlmend.models.places import vllm_rank
from vlmend.objectives import OnPolicy
from vlmend.registry import backend_for
from vlmend.servers.adapters import load_adapter, unload_adapter
from vlmend.servers.address import Address, key_of
from vlmend.servers.chat import Answer, Reply
from vlmend.servers.outcome import Refused
from vlmend.train.parallel import Team
from vlmend.train.rollouts import Sample, drawing, heard
from vlmend.types import Decoding, Example, digest

NEVER = -100  # what is added to the logit of a token that no answer is made of


@dataclass
class ServedSampler:
    """Has a vLLM server answer with the adapter as it is; the server reads it from `folder`, which both have to see.

    What is learned from are the tokens that were drawn, and they have to be drawn after the prompt that is learned
    from: prompt and answer come back as token ids (`return_token_ids`), and a prompt that the server read otherwise
    ends the run. What is drawn follows from the seed as far as the server keeps to it.
    """

    loaded: Loaded
    settings: OnPolicy
    seed: int
    team: Team
    folder: Path
    _server: Openai = field(init=False)

    def __post_init__(self) -> None:
        if not self.loaded.has_adapter:
            raise ConfigError(
                "method.server is handed an adapter, and model.tune: full or select has none to hand over"
            )
        server = backend_for(self.settings.server)
        if not isinstance(server, Openai) or server.batch:
            raise ConfigError(
                f"method.server {self.settings.server!r} names no server: openai:NAME@http://HOST:PORT/v1"
            )
        if server.kind != "vllm":
            raise ConfigError(f"method.server {server.name} is of the kind {server.kind}; adapters are put on a vLLM")
        banned = {str(token): NEVER for token in sorted(self.loaded.codec.unspeakable)}
        more: dict[str, Any] = {"return_token_ids": True, "logprobs": True, "logit_bias": banned}
        given = json.loads(server.extra or "{}")
        self._server = replace(server, server="vllm", extra=json.dumps({**given, **more}))

    @property
    def _address(self) -> Address:
        """Where the adapter answers: named by the run, so that two runs on a server do not take each other's."""
        return Address(f"vlmend-{digest(str(self.folder.absolute()))[:12]}", Address.parse(self._server.model).url)

    def ready(self) -> None:
        """Hand the adapter over, as it is now; returns in every process once the server has it."""
        self.team.first(self._hand_over)

    def _hand_over(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.loaded.model.save_pretrained(self.folder)
        vllm_rank(self.folder)
        load_adapter(self._address, self._key, self.folder)

    def leave(self) -> None:
        """Nothing of the run stays in its folder, nor on the server, if that is still there."""
        if self.team.is_main:
            with suppress(ModelError):
                unload_adapter(self._address, self._key)
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _key(self) -> str:
        return key_of(Address.parse(self._server.model), self._server.key_env)

    def __call__(
        self, examples: Sequence[Example], weights: Sequence[float], step: int, groups: Sequence[int]
    ) -> list[Sample]:
        """`samples` answers to each example, in order; `groups` are the examples' places in the step.

        Raises ModelError for a server that gives no answer, or one that nothing can be learned from.
        """
        address = self._address
        server = replace(self._server, model=f"{address.name}@{address.url}")
        place = {id(example): number for number, example in enumerate(examples)}
        jobs = self._jobs(examples, step)
        found: dict[int, Sample] = {}
        for job, outcome in server.replies(jobs, self._decoding(step, "")):
            if isinstance(outcome, Refused):
                raise ModelError(f"{address.url} gives no answer to example {job.example.id!r}: {outcome.why}")
            at = place[id(job.example)]
            for number, answer in zip(job.samples, outcome.reply.answers, strict=False):
                where = groups[at] * self.settings.samples + number
                found[where] = self._sample(job.example, answer, outcome.reply, where, groups[at], weights[at])
        return [found[key] for key in sorted(found)]

    def _jobs(self, examples: Sequence[Example], step: int) -> Iterator[Job]:
        numbers = tuple(range(self.settings.samples))
        return (Job(example, numbers, self._decoding(step, example.id)) for example in examples)

    def _decoding(self, step: int, example: str) -> Decoding:
        return drawing(self.settings, int(digest("rollouts", self.seed, step, example)[:7], 16))

    def _sample(self, example: Example, answer: Answer, reply: Reply, number: int, group: int, weight: float) -> Sample:
        if not answer.ids or not reply.prompt_ids:
            raise ModelError(
                f"{self._server.name} answers example {example.id!r} without token ids, and text does not say which"
                " tokens were drawn: vLLM 0.11 and later tell them"
            )
        told = answer.logps if self.settings.temperature == self.settings.top_p == 1 else ()
        return Sample(
            number, group, weight, answer.ids, heard(self.loaded.codec, example, answer.ids), reply.prompt_ids, told
        )
