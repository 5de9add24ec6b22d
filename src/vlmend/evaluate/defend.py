"""Answer behind defences: rounds of what all of them ask, each question once, and everything stored as it comes.

What a defence asks on its way is kept beside the answers, in `exchanges.jsonl`. Its talk is not: whoever goes on after
a kill has it ask again from the start, and is told what was said then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmend import rewards
from vlmend.backends import response_id
from vlmend.defences import asks_of, defended
from vlmend.errors import DataError, StoreError, UsageError
from vlmend.judge.models import Models
from vlmend.judge.naming import about
from vlmend.judge.verdicts import from_specs, stream
from vlmend.registry import defences
from vlmend.store import Asked, Journal, response_from_json, response_to_json
from vlmend.store.files import stream_rows
from vlmend.store.nouns import verdict_from_json, verdict_to_json
from vlmend.types import (
    Alters,
    Backend,
    Decoding,
    Defence,
    Example,
    Finish,
    Judge,
    JudgesRequests,
    Reads,
    Request,
    Response,
    Rollout,
    Screening,
    Screens,
    Talk,
    Verdict,
    content_of,
    digest,
)

EXCHANGES = "exchanges.jsonl"
Progress = Callable[[str, int, int], None]
Ask = Callable[[Backend, Mapping[str, Asked], Decoding], Iterator[Response]]


@dataclass(frozen=True)
class Chain:
    """Defences one behind the other, the first before all others; a name that changes with what they are made of."""

    specs: tuple[str, ...]
    defences: tuple[Defence, ...]
    made_of: str

    @property
    def asks(self) -> tuple[int, int]:
        """How often, at most, an answer takes the model, and how often a judge or a reward."""
        return asks_of(self.talking)

    @property
    def talking(self) -> tuple[Defence, ...]:
        """Those that talk; the others change the model."""
        return tuple(one for one in self.defences if not isinstance(one, Alters))

    def over(self, backend: Backend) -> Backend:
        """What the last of them asks."""
        for one in reversed(self.defences):
            backend = one.over(backend) if isinstance(one, Alters) else backend
        return backend


NONE = Chain((), (), "")


def chain_from(specs: Sequence[str], models: Models) -> Chain:
    """A chain by the specs of its defences. Raises VlmendError where one of them cannot be meant."""
    made: list[Defence] = [defences.from_spec(spec) for spec in specs]
    known: list[object] = []
    for spec, one in zip(specs, made, strict=True):
        judged = [[judge.name, dict(about(judge, models))] for judge in _judges(spec, one)]
        known.append([spec, one.content if isinstance(one, Reads) else "", judged])
    return Chain(tuple(specs), tuple(made), digest(*known))


def _judges(spec: str, defence: Defence) -> list[Judge]:
    """Those that look. Raises UsageError for one that says nothing of what the defence reads."""
    if not isinstance(defence, Screens):
        return []
    found = from_specs(defence.judges)[0]
    for judge in found:
        if not set(judge.answers) & set(defence.reads):
            raise UsageError(
                f"defence {spec}: judge {judge.name} answers {', '.join(judge.answers) or 'nothing'}, and what the"
                f" defence reads is {' or '.join(defence.reads)}"
            )
    return found


@dataclass(frozen=True)
class Wanted:
    """A question to be answered behind a chain, for the run in this folder; None keeps nothing of it."""

    asked: Asked
    decoding: Decoding
    chain: Chain
    folder: Path | None = None


@dataclass
class Cost:
    """What the answer to one question took."""

    calls: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0


@dataclass
class _Open:
    """A talk that goes on: what it waits for, and what it cost so far."""

    wanted: Wanted
    backend: Backend
    talk: Talk[Response]
    waiting: Sequence[Request | Screening] = ()
    cost: Cost = field(default_factory=Cost)


def answers(
    wanted: Sequence[Wanted],
    backend: Backend,
    ask: Ask,
    models: Models,
    known: Mapping[str, Response],
    progress: Progress,
) -> Iterator[Response]:
    """The answer to each question, in rounds: what all talks wait for is asked at once.

    `ask` has the model answer. `known` are answers that are there already, by their names: a request that is the same
    as a plain question is not asked again. What fails on the way is a failed answer, to be tried again.
    """
    changed = {chain.made_of: chain.over(backend) for chain in {w.chain.made_of: w.chain for w in wanted}.values()}
    with ExitStack() as stack:
        desk = _Desk(ask, models, dict(known))
        for folder in dict.fromkeys(one.folder for one in wanted if one.folder):
            desk.open(folder, stack.enter_context(Journal(folder / EXCHANGES)))
        talks: list[_Open] = []
        for one in wanted:
            how = replace(one.decoding, first_sample=one.asked.sample, num_return_sequences=1)
            talk = defended(one.chain.talking, Request(one.asked.example.prompt, how))
            open_ = _Open(one, changed[one.chain.made_of], talk)
            ended = _advance(open_, None)
            if isinstance(ended, Response):
                yield ended
            else:
                talks.append(open_)
        number = 0
        while talks:
            number += 1
            desk.hear(talks, lambda done, total, n=number: progress(f"defend, round {n}", done, total))
            goes_on: list[_Open] = []
            for open_ in talks:
                ended = _go_on(open_, desk)
                if isinstance(ended, Response):
                    yield ended
                elif ended:
                    goes_on.append(open_)
            talks = goes_on


def _go_on(open_: _Open, desk: _Desk) -> Response | bool:
    """The answer, if the talk ends now; else whether it goes on: nothing was said to one that does not."""
    heard: list[Response | Verdict] = []
    for item in open_.waiting:
        said = desk.said(open_, item)
        if said is None:
            return False
        if isinstance(said, Response) and said.finish in (Finish.FAILED, Finish.BLOCKED):
            return _final(open_, replace(said, why=f"on the way: {said.why or said.finish}"))
        heard.append(said)
    return _advance(open_, heard)


def _advance(open_: _Open, heard: Sequence[Response | Verdict] | None) -> Response | bool:
    """The answer, if the talk ends with what was heard; else it goes on."""
    try:
        open_.waiting = next(open_.talk) if heard is None else open_.talk.send(heard)
    except StopIteration as ended:
        return _final(open_, ended.value)
    except DataError as error:
        return _final(open_, Response("", "", "", Finish.FAILED, why=str(error)))
    return True


def _final(open_: _Open, said: Response) -> Response:
    asked, cost = open_.wanted.asked, open_.cost
    return replace(
        said, id=asked.response_id, example_id=asked.example.id, sample=asked.sample, calls=cost.calls,
        tokens=cost.tokens, prompt_tokens=cost.prompt_tokens, seconds=cost.seconds,
    )  # fmt: skip


class _Desk:
    """What was said, by what was asked; and what has it said where it was not."""

    def __init__(self, ask: Ask, models: Models, known: dict[str, Response]) -> None:
        self._ask, self._models = ask, models
        self._responses = known
        self._verdicts: dict[str, tuple[Verdict, float]] = {}
        self._journals: dict[Path, Journal] = {}
        self._noted: dict[Path, set[str]] = {}
        self._examples: dict[str, Example] = {}

    def open(self, folder: Path, journal: Journal) -> None:
        """Take over what was said for the run in a folder, and note there what is said from now on."""
        self._journals[folder], self._noted[folder] = journal, set()
        for number, row in enumerate(stream_rows(journal.path), start=1):
            try:
                name = self._take(row)
            except (StoreError, KeyError, TypeError, ValueError) as error:
                raise StoreError(f"{journal.path} is damaged in line {number}: {error}") from error
            self._noted[folder].add(name)

    def _take(self, row: Mapping[str, Any]) -> str:
        if "verdict" in row:
            self._verdicts[row["id"]] = verdict_from_json(row["verdict"]), float(row["seconds"])
            return row["id"]
        response = response_from_json(row["response"])
        self._responses[response.id] = response
        return response.id

    def said(self, open_: _Open, item: Request | Screening) -> Response | Verdict | None:
        """What was said to this, without names; it is added to what the answer costs. None where nothing was said."""
        name = self._name(open_, item)
        cost = open_.cost
        if isinstance(item, Screening):
            if name not in self._verdicts:
                return None
            verdict, seconds = self._verdicts[name]
            cost.seconds += seconds
            return verdict
        said = self._responses.get(name)
        if said is None:
            return None
        cost.calls += 1
        cost.tokens += said.tokens
        cost.prompt_tokens += said.prompt_tokens
        cost.seconds += said.seconds
        return replace(said, id="", example_id="", sample=0)

    def _name(self, open_: _Open, item: Request | Screening) -> str:
        if isinstance(item, Screening):
            return digest("screening", item.by, item.spec, content_of(item.prompt), item.answer, self._made_of(item))
        example = self._example(open_, item)
        return response_id(open_.backend.fingerprint, example, item.decoding, item.decoding.first_sample)

    def _made_of(self, item: Screening) -> object:
        if item.by == "reward":
            return ""
        return [dict(about(judge, self._models)) for judge in from_specs([item.spec])[0]]

    def _example(self, open_: _Open, item: Request) -> Example:
        """The request as an example, the same object for the same request: backends put these together."""
        own = open_.wanted.asked.example
        key = digest(own.id, content_of(item.prompt))
        return self._examples.setdefault(key, replace(own, prompt=item.prompt))

    def hear(self, talks: Sequence[_Open], progress: Callable[[int, int], None]) -> None:
        """Have everything said that the talks wait for."""
        requests: dict[tuple[int, Decoding], dict[str, Asked]] = {}
        screenings: dict[tuple[str, str, bool], dict[str, Screening]] = {}
        backends: dict[int, Backend] = {}
        folders: dict[str, dict[Path, None]] = {}
        for open_ in talks:
            for item in open_.waiting:
                name = self._name(open_, item)
                kept = folders.setdefault(name, {})
                if open_.wanted.folder:
                    kept[open_.wanted.folder] = None
                if name in self._responses or name in self._verdicts:
                    continue
                if isinstance(item, Screening):
                    screenings.setdefault((item.by, item.spec, bool(item.answer)), {})[name] = item
                else:
                    number = item.decoding.first_sample
                    how = replace(item.decoding, first_sample=0, num_return_sequences=1)
                    backends[id(open_.backend)] = open_.backend
                    asked = Asked(self._example(open_, item), name, sample=number)
                    requests.setdefault((id(open_.backend), how), {})[name] = asked
        for name, where in folders.items():
            self._note(name, where)
        total = sum(map(len, requests.values())) + sum(map(len, screenings.values()))
        done = 0
        progress(done, total)
        for name in self._heard(requests, backends, screenings):
            self._note(name, folders[name])
            done += 1
            progress(done, total)

    def _heard(
        self, requests: Mapping[tuple[int, Decoding], Mapping[str, Asked]], backends: Mapping[int, Backend],
        screenings: Mapping[tuple[str, str, bool], Mapping[str, Screening]],
    ) -> Iterator[str]:  # fmt: skip
        for (place, how), some in requests.items():
            for response in self._ask(backends[place], some, how):
                self._responses[response.id] = response
                yield response.id
        for (by, spec, _), some in screenings.items():
            look = self._judged if by == "judge" else self._rewarded
            names, started = list(some), time.perf_counter()
            for at, verdict in look(spec, list(some.values())):
                now = time.perf_counter()
                self._verdicts[names[at]] = verdict, now - started
                started = now
                yield names[at]

    def _judged(self, spec: str, some: Sequence[Screening]) -> Iterator[tuple[int, Verdict]]:
        """What a judge says of answers, or else of requests, in its own form for these, if it has one.

        Any other judge of answers is shown a request's words in the place of an answer.
        """
        [judge], allowed = from_specs([spec])
        alone = judge.of_request() if isinstance(judge, JudgesRequests) and not some[0].answer else None
        if alone:
            judge, allowed = alone, allowed | ({alone.name} if allowed else set())
        pairs: list[tuple[Example, Response]] = []
        for number, item in enumerate(some):
            prompt, answer = item.prompt, item.answer
            if not answer and not getattr(judge, "takes_silence", False):
                turn = prompt[-1]
                prompt, answer = (*prompt[:-1], replace(turn, parts=turn.images)), turn.text
            example = Example(f"request {number + 1}", prompt)
            pairs.append((example, Response(str(number), example.id, answer, Finish.STOP)))
        models = replace(self._models, allowed=self._models.allowed | allowed)
        for place, verdict in stream(judge, pairs, models):
            yield place, replace(verdict, response_id="")

    def _rewarded(self, spec: str, some: Sequence[Screening]) -> Iterator[tuple[int, Verdict]]:
        reward = rewards.from_spec(spec)
        rollouts = [
            Rollout(Example(f"request {n + 1}", item.prompt), item.answer, len(item.answer.split()), True)
            for n, item in enumerate(some)
        ]
        for place, value in enumerate(reward(rollouts)):
            if value is None:
                yield place, Verdict(spec, "", why="the reward says nothing of it")
            else:
                yield place, Verdict(spec, "", scores={"reward": float(value)})

    def _note(self, name: str, folders: Mapping[Path, None]) -> None:
        """Store what was said for each run that asks it, where it is worth keeping: what failed is tried again."""
        response, (verdict, seconds) = self._responses.get(name), self._verdicts.get(name, (None, 0.0))
        row: dict[str, Any] = {}
        if response is not None and response.finish is not Finish.FAILED:
            row = {"response": response_to_json(response)}
        elif verdict is not None and not verdict.why:
            row = {"id": name, "verdict": verdict_to_json(verdict, ""), "seconds": round(seconds, 6)}
        for folder in folders if row else ():
            if name not in self._noted[folder]:
                self._journals[folder].append(row)
                self._noted[folder].add(name)
