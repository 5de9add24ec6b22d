"""Any OpenAI-compatible chat server: vLLM, SGLang, llama.cpp, `transformers serve`, the OpenAI API, and the like."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vlmend.backends import refuse_budget, response_id
from vlmend.errors import ConfigError, DataError, ModelError, nearest
from vlmend.reasoning import check_budget, first_step, second_step, told_apart
from vlmend.servers.abilities import Asker, control_tokens, schema_way
from vlmend.servers.address import OPENAI_HOST, Address, Connections, check_variable, extra_of, key_of, kind_of, models
from vlmend.servers.batch import Batches, Provider
from vlmend.servers.chat import Answer, Kind, messages, sampling, takes_n
from vlmend.servers.exchange import Exchange, Rules
from vlmend.servers.hurried import CONTINUED, CONTINUING, counted, ended, opened
from vlmend.servers.ledger import Account
from vlmend.servers.outcome import Answered, Outcome, Refused, post
from vlmend.servers.pictures import Caps
from vlmend.store import cache_folder
from vlmend.types import Decoding, Example, Finish, Image, Message, Response, digest

LOG = logging.getLogger("vlmend")
OURS = ("model", "messages", "n", "seed", "store", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Openai:
    """`openai:NAME@URL`, or `openai:NAME` for the OpenAI API. A server's `revision` is what its user says it is.

    `server` is what kind it is (auto: by what it says of itself). `extra` is a JSON object that is added to every
    request, `omit` names parts of it that are left out (`temperature,seed`). `key_env` names the environment variable
    that holds the key. At most `window` requests at a time, each within `timeout` seconds; `retries` after errors,
    `patience` seconds for a server that is away or busy. `budget` is money, or `500calls`, or `2Mtokens`. `batch` uses
    the provider's batch files and looks every `poll` seconds.
    """

    model: str
    server: Literal["auto", "openai", "vllm", "sglang", "llama.cpp", "transformers", "vlmend", "plain"] = "auto"
    revision: str = ""
    key_env: str = ""
    window: int = 32
    timeout: float = 300.0
    retries: int = 5
    patience: float = 300.0
    backoff: float = 0.5
    max_side: int = 0
    max_bytes: int = 15_000_000
    omit: str = ""
    extra: str = ""
    budget: str = ""
    prices: Path | None = None
    batch: bool = False
    poll: float = 30.0

    def __post_init__(self) -> None:
        if min(self.window, self.max_bytes) < 1 or min(self.timeout, self.backoff) <= 0:
            raise ConfigError("window and max_bytes are at least 1, timeout and backoff more than 0")
        if min(self.retries, self.patience, self.max_side) < 0:
            raise ConfigError("retries, patience and max_side are at least 0")
        check_variable(self.key_env)
        _ = self._address, self._extra

    @cached_property
    def _address(self) -> Address:
        return Address.parse(self.model)

    @cached_property
    def _key(self) -> str:
        return key_of(self._address, self.key_env)

    @cached_property
    def kind(self) -> Kind:
        """What kind of server it is."""
        return kind_of(self._address, self._key) if self.server == "auto" else self.server

    @cached_property
    def _extra(self) -> dict[str, Any]:
        return extra_of(self.extra, OURS)

    @property
    def name(self) -> str:
        """Model and address, without the settings that decide no answer."""
        return f"openai:{self.model}"

    @cached_property
    def account(self) -> Account:
        """What was spent, and what may be."""
        return Account.opened(self.name, self.budget, self.prices)

    @cached_property
    def fingerprint(self) -> str:
        """Name, address and settings. A server does not tell its weights: `revision` is where a user says them."""
        how = [self.server, self.omit, self._extra, self.max_side, self.max_bytes]
        return digest("openai", self._address.name, self._address.url, self.revision, how)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What the server does with control tokens in user text, measured once; nothing where nobody answers.

        Counting tokens is free where the kind of server does it by itself. Elsewhere it is a handful of requests for
        one token each, which a server of a kind that was named `plain`, the OpenAI API, and a budget are spared.
        """
        if self.server in ("plain", "openai") or self._address.host == OPENAI_HOST:
            return ()
        try:
            tokenizes = self.kind in ("vllm", "sglang")
            if not tokenizes and (self.budget or self.batch or self._key):
                return ()
            return (control_tokens(self._asker, tokenizes=tokenizes),)
        except ModelError:  # nobody there: whoever asks will say so
            return ()

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self._address, self._key)

    @cached_property
    def _schema_way(self) -> str:
        """Known of kinds; asked once of a server whose kind nobody knows, unless that is paid for."""
        if self.kind != "plain" or self.server == "plain" or self.budget or self.batch or self._key:
            return "response_format"
        found = schema_way(self._asker)
        if not found:
            LOG.warning(
                "vlmend: %s keeps to no JSON schema, however it is called; answers are checked as ever", self.name
            )
        return found or "response_format"

    @property
    def ran_on(self) -> str:
        """The server's address."""
        return self._address.url

    @property
    def _caps(self) -> Caps:
        return Caps(self.max_side, self.max_bytes)

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Responses as they arrive. What a server refuses or a filter stops is a response that says so.

        Raises ModelError when no question could be answered: nobody there, wrong key, unknown model.
        """
        if decoding.thinking_budget:
            if self.kind in CONTINUING:
                yield from self._hurried(examples, decoding)
                return
            if self.kind != "vlmend":
                refuse_budget(decoding, f"{self.name}, a server of kind {self.kind},")
        step = decoding.num_return_sequences if takes_n(self.kind) else 1
        samples = decoding.samples
        groups = [tuple(samples[start : start + step]) for start in range(0, len(samples), step)]
        jobs = (Job(example, group, decoding) for example in examples for group in groups)
        for job, outcome in self.replies(jobs, decoding):
            yield from self._responses(job, outcome)

    def _hurried(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Responses within a budget for thinking, in two steps: as far as it goes, and what follows.

        What is inside its reasoning then is ended and goes on; anything longer is asked for again as if there were no
        budget. Tokens are those of the response, each counted once.
        """
        check_budget(decoding)
        begun = opened(self._asker)
        longer: list[Job] = []
        cut: dict[int, list[Job]] = {}  # by how much is said so far
        jobs = (Job(example, (sample,), decoding) for example in examples for sample in decoding.samples)
        for job, outcome in self.replies(jobs, first_step(decoding)):
            answer = outcome.reply.answers[0] if isinstance(outcome, Answered) else None
            if not isinstance(outcome, Answered) or answer is None or answer.finish is not Finish.LENGTH:
                yield from self._responses(job, outcome)
            elif (turn := ended(answer, begun)) is None:
                longer.append(job)
            else:
                said = max(outcome.reply.tokens, decoding.thinking_budget) + self._tokens_of(turn[1])
                going = replace(job, turn=turn[0], first=outcome)
                if said < decoding.max_new_tokens:
                    cut.setdefault(said, []).append(going)
                else:
                    reply = replace(outcome.reply, answers=(Answer("", Finish.LENGTH),), tokens=0)
                    yield self._joined(going, replace(outcome, reply=reply, seconds=0.0), decoding.max_new_tokens)
        for job, outcome in self.replies(longer, replace(decoding, thinking_budget=0)):
            yield from self._responses(job, outcome)
        for said, going in cut.items():
            for job, outcome in self.replies(going, second_step(decoding, said, decoding.first_sample)):
                if isinstance(outcome, Answered):
                    yield self._joined(job, outcome, said)
                else:
                    yield from self._responses(job, outcome)

    def _joined(self, job: Job, outcome: Answered, said: int) -> Response:
        """The response of both steps; a server that tells reasoning apart may take all of the second for reasoning."""
        first = job.first or outcome
        answer = outcome.reply.answers[0]
        whole = replace(answer, text=job.turn + (answer.text or answer.reasoning), reasoning="")
        return replace(
            self._response(job, job.samples[0], whole), tokens=said + outcome.reply.tokens, hurried=True,
            prompt_tokens=first.reply.prompt_tokens, seconds=first.seconds + outcome.seconds,
        )  # fmt: skip

    def _tokens_of(self, text: str) -> int:
        known: dict[str, int] = self.__dict__.setdefault("_counted", {})
        if text not in known:
            known[text] = counted(self._asker, text)
        return known[text]

    def replies(self, asked: Iterable[Job], decoding: Decoding) -> Iterator[tuple[Job, Answered | Refused]]:
        """What becomes of requests, as it comes; `decoding` is theirs but for the seed.

        Answers that a reply lacks are asked for again. Raises ModelError as `generate` does.
        """
        jobs = Jobs(iter(asked))
        frame = self._frame(decoding)
        send = self._in_batches if self.batch else self._exchange
        for job, outcome in send(jobs, frame):
            yield job, outcome
            if isinstance(outcome, Answered) and (missing := job.samples[len(outcome.reply.answers) :]):
                jobs.more(replace(job, samples=missing))

    def _frame(self, decoding: Decoding) -> dict[str, Any]:
        """What all requests have in common, each with its messages, `n` and `seed` still to come."""
        omitted = list(filter(None, self.omit.split(",")))
        way = self._schema_way if decoding.schema else "response_format"
        frame = {"model": self._address.name, **sampling(decoding, self.kind, way), **self._extra}
        for name in omitted:
            if name not in frame and name not in ("n", "seed"):
                raise ConfigError(f"omit: requests have no {name!r}.{nearest(name, frame)}")
        return {name: value for name, value in frame.items() if name not in omitted}

    def _body(self, job: Job, frame: dict[str, Any]) -> bytes:
        rows, job.lost = messages(job.prompt, self._caps)
        body = {**frame, "messages": rows}
        if job.turn:
            body |= CONTINUED
        if len(job.samples) > 1 and "n" not in self.omit.split(","):
            body["n"] = len(job.samples)
        if job.decoding.do_sample and "seed" not in self.omit.split(","):
            body["seed"] = job.decoding.seed + min(job.samples)
        return json.dumps(body).encode()

    def _exchange(self, jobs: Iterator[Job], frame: dict[str, Any]) -> Iterator[tuple[Job, Answered | Refused]]:
        connection = Connections(self._address, self._key, self.timeout)

        async def ask(job: Job) -> Outcome:
            try:
                body = await asyncio.to_thread(self._body, job, frame)
            except DataError as error:
                return Refused(str(error), sent=False)
            found = await post(connection, f"{self._address.url}/chat/completions", body, self.timeout)
            return found if isinstance(found, Answered) else replace(found, why=self._without_key(found.why))

        async def harmless(job: Job) -> Outcome | None:
            """What becomes of a harmless request of the same form, if it can be afforded."""
            control = replace(job, example=_control(job.example), samples=job.samples[:1])
            return await self.account.trial(control, ask)

        rules = Rules(self.window, self.retries, self.patience, self.backoff)
        try:
            yield from Exchange(connection, jobs, ask, rules, self.account, control=harmless, spent=self.account.spent)
        except ModelError as error:
            raise ModelError(self._explained(str(error))) from error

    def _in_batches(self, jobs: Iterator[Job], frame: dict[str, Any]) -> Iterator[tuple[Job, Answered | Refused]]:
        def name(job: Job) -> str:
            return self._id(job.example, job.decoding, min(job.samples))

        provider = Provider(self._address.url, self._key, self.patience, self.backoff)
        folder = cache_folder() / "batches" / self.fingerprint
        try:
            batches = Batches(provider, folder, self.account, poll=self.poll)
            yield from batches.run(jobs, name, lambda job: self._body(job, frame))
        except ModelError as error:
            raise ModelError(self._explained(self._without_key(str(error)))) from error

    def _responses(self, job: Job, outcome: Answered | Refused) -> Iterator[Response]:
        if isinstance(outcome, Refused):
            finish = Finish.BLOCKED if outcome.blocked else Finish.FAILED
            for sample in job.samples:
                yield self._response(job, sample, Answer("", finish, outcome.why))
            return
        reply = outcome.reply
        count = min(len(reply.answers), len(job.samples))
        for turn, (sample, answer) in enumerate(zip(job.samples, reply.answers, strict=False)):
            tokens = reply.tokens // count + (turn < reply.tokens % count)
            response = self._response(job, sample, answer)
            yield replace(
                response, tokens=tokens, prompt_tokens=0 if turn else reply.prompt_tokens,
                seconds=outcome.seconds / count, calls=reply.calls, hurried=reply.hurried,
            )  # fmt: skip

    def _response(self, job: Job, sample: int, answer: Answer) -> Response:
        response = Response(
            self._id(job.example, job.decoding, sample), job.example.id, answer.text.strip(), answer.finish,
            model=self.name, why="; ".join(filter(None, (answer.why, job.lost))), sample=sample,
            reasoning=answer.reasoning,
        )  # fmt: skip
        return told_apart(response)

    def _id(self, example: Example, decoding: Decoding, sample: int) -> str:
        return response_id(self.fingerprint, example, decoding, sample)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _explained(self, why: str) -> str:
        """What went wrong for all questions, where, and what to do about it."""
        where = f"{self._address.name} at {self._address.url}: {why}"
        if "HTTP 401" in why:
            return f"{where}. The key comes from the environment; key_env=NAME says from which variable"
        if "HTTP 404" in why:
            known = [str(row.get("id")) for row in models(self._address, self._key)]
            return f"{where}.{nearest(self._address.name, known)} It has {', '.join(known[:20]) or 'no list of models'}"
        return where


@dataclass(eq=False)
class Job:
    """One request: answers number `samples` to an example. `lost` is what its pictures lost on the way.

    `turn` is the beginning of the answer that is to go on, and `first` what it came from.
    """

    example: Example
    samples: tuple[int, ...]
    decoding: Decoding
    lost: str = ""
    turn: str = ""
    first: Answered | None = None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What is asked, with the beginning of the answer that is to go on."""
        begun = (Message("assistant", (self.turn,)),) if self.turn else ()
        return (*self.example.prompt, *begun)

    @property
    def longest(self) -> int:
        """The most tokens of all its answers."""
        return self.decoding.max_new_tokens * len(self.samples)


class Jobs(Iterator[Job]):
    """Requests, one at a time; what was answered in part can be put back."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._back: list[Job] = []

    def __next__(self) -> Job:
        return self._back.pop() if self._back else next(self._jobs)

    def more(self, job: Job) -> None:
        """Ask this too."""
        self._back.append(job)


def _control(example: Example) -> Example:
    """A harmless question of the same form."""
    parts = (Image(make=_gray), "Hello.") if example.images else ("Hello.",)
    return Example("control", (Message("user", parts),))


def _gray() -> bytes:
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.new("RGB", (224, 224), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()


plugin = Openai
