"""Where judges ask models: one door for every question, behind which nothing is asked twice and no budget is crossed.

A reply is stored before it is handed on. What fails is a reply that says why; it is never stored, so it is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, cast

from vlmend.errors import DataError, ModelError, UsageError, VlmendError
from vlmend.judging.cache import Cache
from vlmend.money import Purse, Usage, estimate, served
from vlmend.registry import backend_for
from vlmend.types import Backend, Decoding, Example, Finish, Message, Response, Scorer, conversation_key, digest

AT_ONCE = 256  # questions handed to a backend together; it sees to its own concurrency
PATIENCE = 25  # failures in a row after which a judge's model is taken to be down

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
    """What a judge that asks a model is given: a model and a view unless its own are named, a memory, and a purse."""

    model: str = ""
    sees: Sees = ""
    cache: Cache | None = None
    purse: Purse = field(default_factory=Purse)
    tested: Tested = Tested()
    backends: dict[str, Backend] = field(default_factory=dict[str, Backend])  # loaded once

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

    `lost` marks what may come back another time: it is not kept.
    """

    text: str = ""
    why: str = ""
    weights: Mapping[str, float] | None = None
    lost: bool = False
    read: int = 0
    written: int = 0


class Asked(NamedTuple):
    """Who asks whom."""

    desk: Desk
    judge: str
    model: str
    decoding: Decoding


Keyed = tuple[str, Question]
Call = Callable[[Backend, Sequence[Keyed]], Iterator[tuple[str, Reply]]]


def ask(asked: Asked, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
    """A reply to each question, in any order, with the question's place; equal questions are asked once."""

    def call(backend: Backend, todo: Sequence[Keyed]) -> Iterator[tuple[str, Reply]]:
        examples = [Example(key, question.prompt) for key, question in todo]
        for response in backend.generate(examples, asked.decoding):
            yield response.example_id, _reply(response)

    yield from _Errand(asked, asdict(asked.decoding), call)(questions)


def _reply(response: Response) -> Reply:
    lost = response.finish is Finish.FAILED
    why = "" if response.said else f"the judge's model: {response.why or f'{response.finish}, empty'}"
    return Reply(response.text, why, None, lost, response.prompt_tokens, response.tokens)


def weigh(asked: Asked, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[tuple[int, Reply]]:
    """How likely the model finds each of some answers to each question, instead of what it would say."""

    def call(backend: Backend, todo: Sequence[Keyed]) -> Iterator[tuple[str, Reply]]:
        if not hasattr(backend, "likelihoods"):
            raise UsageError(
                f"judge {asked.judge}: {asked.model} cannot say how likely an answer is; name a local model"
            )
        found: dict[str, dict[str, float]] = {key: {} for key, _ in todo}
        examples = [(Example(key, question.prompt), tuple(answers)) for key, question in todo]
        for one in cast(Scorer, backend).likelihoods(examples):
            weights = found[one.example_id]
            if one.logprob is None:
                yield one.example_id, Reply(why=f"the judge's model: {one.why or 'no likelihood'}", lost=True)
            else:
                weights[one.answer] = one.logprob
                if len(weights) == len(set(answers)):
                    yield one.example_id, Reply(weights=weights)

    yield from _Errand(asked, {"likelihoods": list(answers)}, call)(questions)


@dataclass(frozen=True)
class _Errand:
    """Questions on their way: from memory where they were asked before, else from the model, as far as money goes."""

    asked: Asked
    how: Mapping[str, Any]  # what else decides the reply
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
        desk = self.asked.desk
        known = desk.cache.get(list(todo)) if desk.cache else {}
        for key, row in known.items():
            desk.purse.known += 1
            yield key, Reply(**row)
        left = [(key, question) for key, question in todo.items() if key not in known]
        if backend is None or desk.purse.dry:
            yield from self._estimated(left)
        else:
            yield from self._from_model(backend, left)

    def _estimated(self, todo: Sequence[Keyed]) -> Iterator[tuple[str, Reply]]:
        for key, question in todo:
            self.asked.desk.purse.expect(self.asked.model, *estimate(question.prompt, self._longest))
            yield key, Reply(why="not asked: a dry run", lost=True)

    def _from_model(self, backend: Backend, todo: Sequence[Keyed]) -> Iterator[tuple[str, Reply]]:
        purse, in_a_row, why = self.asked.desk.purse, 0, ""
        while todo:
            at_once = 1 if purse.budget and self.asked.model not in purse.spent else AT_ONCE  # it may add to prompts
            most = [estimate(question.prompt, self._longest)[1] for _, question in todo[:at_once]]
            some = todo[: purse.room(self.asked.model, most)]
            if not some:
                why = f"not asked: the budget of {purse.budget} could be crossed"
                yield from ((key, Reply(why=why, lost=True)) for key, _ in todo)
                return
            for key, reply in self._answered(backend, some):
                in_a_row, why = (in_a_row + 1, reply.why) if reply.lost else (0, "")
                yield key, reply
            todo = todo[len(some) :]
            if in_a_row >= PATIENCE:
                why = f"not asked: {self.asked.model} failed {in_a_row} times in a row, last: {why}"
                yield from ((key, Reply(why=why, lost=True)) for key, _ in todo)
                return

    def _answered(self, backend: Backend, some: Sequence[Keyed]) -> Iterator[tuple[str, Reply]]:
        """What the model says to some questions, stored and paid for; what it does not answer is lost."""
        desk = self.asked.desk
        open_, most = dict(some), {key: estimate(question.prompt, self._longest)[1] for key, question in some}
        why = f"the judge's model: {self.asked.model} gave no reply"
        try:
            for key, reply in self.call(backend, some):
                if open_.pop(key, None) is None:
                    continue
                if desk.cache and not reply.lost:
                    desk.cache.put(key, reply._asdict())
                desk.purse.pay(self.asked.model, self._used(reply, most[key]), most[key])
                yield key, reply
        except VlmendError as error:
            if not isinstance(error, ModelError):
                raise
            why = f"the judge's model: {error}"
        except Exception as error:  # noqa: BLE001  # somebody's backend: whatever goes wrong in it is an outcome
            why = f"the judge's model: {type(error).__name__}: {error}"
        yield from ((key, Reply(why=why, lost=True)) for key in open_)

    def _used(self, reply: Reply, most: Usage) -> Usage:
        """What a call used; the most it can have where a budget has to hold and the model does not say."""
        untold = self.asked.desk.purse.budget is not None and not reply.lost and not reply.read
        return most if untold else Usage(1, reply.read, reply.written)

    @property
    def _longest(self) -> int:
        return self.asked.decoding.max_new_tokens


def _is_local(model: str) -> bool:
    """Whether the model would have to be loaded here to be known."""
    return not served(model)[0] and not model.startswith("scripted")
