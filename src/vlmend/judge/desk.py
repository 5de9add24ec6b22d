"""Where judges ask models: one door for every question, behind which nothing is asked twice and no budget is crossed.

A reply that the judge can read is stored before it is handed on. What fails is a reply that says why; neither it nor
what cannot be read is stored, so it is asked again. What another process is asking is waited for.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, cast

from vlmend.errors import DataError, ModelError, StoreError, UsageError, VlmendError
from vlmend.judge.cache import Cache
from vlmend.judge.handout import Handout
from vlmend.money import Purse, Usage, estimate, served
from vlmend.registry import backend_for
from vlmend.types import (
    Backend,
    Decoding,
    Example,
    Finish,
    FirstWords,
    Message,
    Response,
    Scorer,
    conversation_key,
    digest,
)

LOG = logging.getLogger("vlmend.judge")
AT_ONCE = 256  # questions handed to a backend together; it sees to its own concurrency
PATIENCE = 25  # failures in a row after which a judge's model is taken to be down
LOOK = 0.1  # seconds between two looks at what another process has got
STUCK = 600.0  # seconds without news of it after which its questions are asked here, even if they are paid twice

Sees = Literal["", "text", "image"]
J = TypeVar("J")


@dataclass(frozen=True)
class Tested:
    """Whom a judge must not ask for an opinion: the model under test, and the rewards it was tuned with."""

    model: str = ""
    fingerprint: str = ""
    rewards: tuple[str, ...] = ()
    backend: Backend | None = None  # the model itself, where it is loaded


@dataclass(frozen=True)
class Desk:
    """What a judge that asks a model is given: a model and a view unless its own are named, a memory, and a purse.

    It also knows which models are down, so that no judge, batch or suite finds that out again.
    """

    model: str = ""
    sees: Sees = ""
    cache: Cache | None = None
    purse: Purse = field(default_factory=Purse)
    tested: Tested = Tested()
    backends: dict[str, Backend] = field(default_factory=dict[str, Backend])  # loaded once
    in_a_row: Counter[str] = field(default_factory=Counter[str])  # failures since a model last replied
    down: dict[str, str] = field(default_factory=dict[str, str])  # models that are asked no more, and why

    def heard(self, model: str, reply: Reply) -> None:
        """Take note of a reply, or of a failure: after PATIENCE in a row the model is down."""
        self.in_a_row[model] = self.in_a_row[model] + 1 if reply.lost else 0
        if self.in_a_row[model] >= PATIENCE:
            self.down.setdefault(model, f"{model} failed {PATIENCE} times in a row, last: {reply.why}")

    def chosen(self, model: str, judge: str) -> str:
        """The judge's own model or else the desk's. Raises UsageError when there is none, or when it is the tested."""
        found = model or self.model
        if not found:
            raise UsageError(f"judge {judge} asks a model; name it with --judge-model, such as openai:NAME@URL")
        if self.tested.model and _plain(found) == _plain(self.tested.model):
            raise UsageError(_self(judge, found))
        if found in self.tested.rewards:
            raise UsageError(
                f"judge {judge} would ask {found}, the reward this model was tuned with; {_by_name(judge)}"
            )
        return found

    def backend(self, model: str, judge: str) -> Backend:
        """The model, loaded; not when it turns out to be the tested one under another name."""
        found = self.backends.get(model)
        if found is None:
            found = self.backends[model] = backend_for(model)
        if self.tested.fingerprint and found.fingerprint == self.tested.fingerprint:
            raise UsageError(_self(judge, model))
        return found

    def read(self, judge: str) -> Backend:
        """The model under test, for a judge that reads what it knows instead of judging what it said.

        Raises UsageError where its name now stands for another model.
        """
        whom = self.tested
        found = whom.backend or self.backends.get(whom.model)
        if found is None:
            found = self.backends[whom.model] = backend_for(whom.model)
        if whom.fingerprint and found.fingerprint != whom.fingerprint:
            raise UsageError(f"judge {judge} reads the model that answered, and {whom.model} is no longer the same")
        return found


def _by_name(judge: str) -> str:
    return f"if that is what you want, say so: --judge '{judge}{'&' if '?' in judge else '?'}allow_self=yes'"


def _plain(model: str) -> str:
    """A model's name without settings."""
    return model.removeprefix("hf:").partition("?")[0]


def _self(judge: str, model: str) -> str:
    return f"judge {judge} would ask {model}, the model under test, to judge itself; {_by_name(judge)}"


def seated(judge: J, desk: Desk) -> J:
    """The same judge at another desk. One that asks nobody has no use for it.

    A desk is no setting of a judge: it is a class attribute that is covered by the instance's own.
    """
    if not hasattr(judge, "desk"):
        return judge
    other = copy(judge)
    object.__setattr__(other, "desk", desk)
    return other


@dataclass(frozen=True)
class Question:
    """What a judge asks a model."""

    prompt: tuple[Message, ...]


class Reply(NamedTuple):
    """What came back: a text, or log-probabilities where those were asked for, or why there is nothing.

    `lost` marks what failed, and may come back another time.
    """

    text: str = ""
    why: str = ""
    weights: Mapping[str, float] | None = None
    lost: bool = False
    read: int = 0
    written: int = 0


def anything(text: str) -> bool:
    """Any text will do."""
    del text
    return True


class Asked(NamedTuple):
    """Who asks whom. `readable` says whether the judge can make a verdict of a text: only then is it worth keeping."""

    desk: Desk
    judge: str
    model: str
    decoding: Decoding
    readable: Callable[[str], bool] = anything


Keyed = tuple[str, Question]
Make = Callable[[str, Question], Any]  # what a backend is given for a question
Call = Callable[[Backend, Sequence[Any]], Iterator[tuple[str, Reply]]]


def ask(asked: Asked, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
    """A reply to each question, in any order, with the question's place; equal questions are asked once."""

    def made(key: str, question: Question) -> Example:
        return Example(key, question.prompt)

    def call(backend: Backend, todo: Sequence[Example]) -> Iterator[tuple[str, Reply]]:
        for response in backend.generate(todo, asked.decoding):
            yield response.example_id, _reply(response)

    yield from _Errand(asked, asdict(asked.decoding), made, call)(questions)


def _reply(response: Response) -> Reply:
    lost = response.finish is Finish.FAILED
    why = "" if response.said else f"the judge's model: {response.why or f'{response.finish}, empty'}"
    return Reply(response.text, why, None, lost, response.prompt_tokens, response.tokens)


def weigh(
    asked: Asked, questions: Sequence[Question], answers: Sequence[str], *, begun: bool = False
) -> Iterator[tuple[int, Reply]]:
    """How likely the model finds each of some answers to each question, instead of what it would say.

    `begun`: how likely it is to begin its reply with each of them.
    """
    ability = "beginnings" if begun else "likelihoods"

    def made(key: str, question: Question) -> tuple[Example, tuple[str, ...]]:
        return Example(key, question.prompt), tuple(answers)

    def call(backend: Backend, todo: Sequence[tuple[Example, tuple[str, ...]]]) -> Iterator[tuple[str, Reply]]:
        if not hasattr(backend, ability):
            raise UsageError(
                f"judge {asked.judge}: {asked.model} cannot say how likely an answer is; name a local model"
            )
        found: dict[str, dict[str, float]] = {}
        found_by = cast(FirstWords, backend).beginnings if begun else cast(Scorer, backend).likelihoods
        for one in found_by(todo):
            weights = found.setdefault(one.example_id, {})
            if one.logprob is None:
                yield one.example_id, Reply(why=f"the judge's model: {one.why or 'no likelihood'}", lost=True)
            else:
                weights[one.answer] = one.logprob
                if len(weights) == len(set(answers)):
                    yield one.example_id, Reply(weights=weights)

    yield from _Errand(asked, {ability: list(answers)}, made, call)(questions)


@dataclass(frozen=True)
class _Errand:
    """Questions on their way: from memory where they were asked before, else from the model, as far as money goes."""

    asked: Asked
    how: Mapping[str, Any]  # what else decides the reply
    make: Make
    call: Call

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        desk, model = self.asked.desk, self.asked.model
        if not questions:
            return
        desk.purse.check(model)
        backend = None if desk.purse.dry and _is_local(model) else desk.backend(model, self.asked.judge)
        places: dict[str, list[int]] = {}
        todo: dict[str, Question] = {}
        for place, question in enumerate(questions):
            try:
                key = digest(backend.fingerprint if backend else model, conversation_key(question.prompt), self.how)
            except DataError as error:
                yield place, Reply(why=str(error), lost=True)
                continue
            places.setdefault(key, []).append(place)
            todo[key] = question
        for key, reply in self._replies(backend, todo):
            yield from ((place, reply) for place in places[key])

    def _replies(self, backend: Backend | None, todo: dict[str, Question]) -> Iterator[tuple[str, Reply]]:
        """One reply for every key."""
        yield from self._known(todo)
        if backend is None or self.asked.desk.purse.dry:
            yield from self._estimated(todo)
        else:
            yield from self._from_model(backend, todo)

    def _known(self, open_: dict[str, Question]) -> Iterator[tuple[str, Reply]]:
        """Replies to what was asked before, which is no longer open. What could not be read is forgotten."""
        desk = self.asked.desk
        found = {key: Reply(**row) for key, row in desk.cache.get(list(open_)).items()} if desk.cache else {}
        useless = [key for key, reply in found.items() if not self._worth_keeping(reply)]
        if desk.cache and useless and not desk.purse.dry:
            desk.cache.forget(useless)
        for key, reply in found.items():
            if self._worth_keeping(reply):
                del open_[key]
                desk.purse.known += 1
                yield key, reply

    def _worth_keeping(self, reply: Reply) -> bool:
        return not reply.lost and (reply.weights is not None or self.asked.readable(reply.text))

    def _estimated(self, todo: Mapping[str, Question]) -> Iterator[tuple[str, Reply]]:
        for key, question in todo.items():
            self.asked.desk.purse.expect(self.asked.model, *estimate(question.prompt, self._longest))
            yield key, Reply(why="not asked: a dry run", lost=True)

    def _from_model(self, backend: Backend, open_: dict[str, Question]) -> Iterator[tuple[str, Reply]]:
        """Asks what no other process is asking, and waits for what one is."""
        desk, told, news = self.asked.desk, False, time.monotonic()
        while open_:
            why = desk.down.get(self.asked.model, "")
            claimed = [] if why else self._claimed(open_, anyway=time.monotonic() - news > STUCK)
            try:
                # only after claiming: nobody lets go of a question before its reply is stored
                known = list(self._known(open_))
                yield from known
                mine = [(key, open_[key]) for key in claimed if key in open_]
                some = mine[: desk.purse.room(self.asked.model, [self._most(question) for _, question in mine])]
                if mine and not some:
                    why = f"the budget of {desk.purse.budget} could be crossed"
                if why:
                    yield from ((key, Reply(why=f"not asked: {why}", lost=True)) for key in open_)
                    return
                self._release([key for key, _ in mine[len(some) :]])
                for key, _ in some:
                    del open_[key]
                yield from self._answered(backend, some)
            finally:
                self._release(claimed)
            if known or some:
                news = time.monotonic()
                continue
            if not told:
                LOG.warning("vlmend: waiting for %d replies that another process asks for", len(open_))
            told = True
            time.sleep(LOOK)

    def _claimed(self, open_: Mapping[str, Question], *, anyway: bool) -> list[str]:
        """The next questions that are for this process to ask, or, `anyway`, the next ones."""
        desk = self.asked.desk
        at_once = (
            1 if desk.purse.budget and self.asked.model not in desk.purse.spent else AT_ONCE
        )  # it may add to prompts
        found: list[str] = []
        for key in open_:
            if len(found) == at_once:
                break
            if anyway or not desk.cache or desk.cache.claim(key):
                found.append(key)
        return found

    def _release(self, keys: Sequence[str]) -> None:
        if self.asked.desk.cache:
            self.asked.desk.cache.release(keys)

    def _answered(self, backend: Backend, some: Sequence[Keyed]) -> Iterator[tuple[str, Reply]]:
        """What the model says to some questions, stored and paid for; what it does not answer is lost.

        A model that is down is asked nothing more. Neither is one whose reply could not be stored: what it is asked
        already is waited for, handed on and stored if it can be, and then StoreError is raised.
        """
        desk, model = self.asked.desk, self.asked.model
        open_, trouble = dict(some), None
        why = f"the judge's model: {model} gave no reply"
        handout = Handout([self.make(key, question) for key, question in some])
        replies = self.call(backend, handout)
        try:
            for key, reply in replies:
                question = open_.pop(key, None)
                if question is None:
                    continue
                trouble = self._stored(key, question, reply) or trouble
                handout.stopped = bool(trouble or model in desk.down)
                yield key, reply
                if handout.stopped and not served(model)[0]:
                    break  # nothing is paid for; what a server was asked is on its way
        except GeneratorExit:
            handout.stopped = True
            self._save(replies, open_)
            raise
        except ModelError as error:
            why = f"the judge's model: {error}"
            desk.down.setdefault(model, why)
        except VlmendError:
            raise
        except Exception as error:  # noqa: BLE001  # somebody's backend: whatever goes wrong in it is an outcome
            why = f"the judge's model: {type(error).__name__}: {error}"
        if trouble:
            raise trouble
        for key in open_:
            lost = Reply(why=f"not asked: {desk.down[model]}" if handout.stopped else why, lost=True)
            desk.heard(model, lost)
            yield key, lost

    def _stored(self, key: str, question: Question, reply: Reply) -> StoreError | None:
        """Pay for a reply and keep it if it can be read; what went wrong when it could not be written."""
        desk, model, most = self.asked.desk, self.asked.model, self._most(question)
        desk.purse.pay(model, self._used(reply, most), most)
        desk.heard(model, reply)
        try:
            if desk.cache and self._worth_keeping(reply):
                desk.cache.put(key, reply._asdict())
        except StoreError as error:
            return error
        return None

    def _save(self, replies: Iterator[tuple[str, Reply]], open_: dict[str, Question]) -> None:
        """Store what a server was asked already, when whoever reads the replies has come to an end."""
        if not served(self.asked.model)[0]:
            return
        try:
            for key, reply in replies:
                if key in open_:
                    self._stored(key, open_.pop(key), reply)
        except Exception as error:  # noqa: BLE001  # it ends for another reason already, which is the one to be told
            LOG.info("replies on their way were lost: %s", error)

    def _used(self, reply: Reply, most: Usage) -> Usage:
        """What a call used; the most it can have where a budget has to hold and the model does not say."""
        untold = self.asked.desk.purse.budget is not None and not reply.lost and not reply.read
        return most if untold else Usage(1, reply.read, reply.written)

    def _most(self, question: Question) -> Usage:
        return estimate(question.prompt, self._longest)[1]

    @property
    def _longest(self) -> int:
        return self.asked.decoding.max_new_tokens


def _is_local(model: str) -> bool:
    """Whether the model would have to be loaded here to be known."""
    return not served(model)[0] and not model.startswith("scripted")
