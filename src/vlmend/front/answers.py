"""Answers behind a chain of defences to whoever asks at whatever time: what waits together is answered together."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from vlmend.errors import ModelError, VlmendError
from vlmend.evaluate import defend
from vlmend.evaluate.generate import answers_to
from vlmend.judge.models import Models
from vlmend.store import Asked
from vlmend.types import Backend, Billed, Example, Finish, Request, Response, digest

LOG = logging.getLogger("vlmend")
TOGETHER = 64  # requests that a model in this process is given at once, at most
GATHER = 0.005  # seconds in which what comes with a first request joins it
ENDING = "the server is ending"


class Waiting(NamedTuple):
    """A request, and where its answer goes."""

    number: int
    request: Request
    answer: Future[Response]


@dataclass
class Answers:
    """Has a model answer behind a chain. Raises VlmendError where the chain cannot stand before it.

    A model in this process, and one whose answers judges or rewards look at, is given what waits as one batch after the
    other. One on a server is asked by `abreast` threads, a request each.
    """

    backend: Backend
    chain: defend.Chain
    models: Models
    abreast: int = 32
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = digest(self.chain.over(self.backend).fingerprint, "behind", self.chain.made_of)
        alone = isinstance(self.backend, Billed) and not self.chain.asks[1]
        self._most, threads = (1, self.abreast) if alone else (TOGETHER, 1)
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._numbers, self._ended, self._lock = count(), False, threading.Lock()
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def __call__(self, request: Request) -> Response:
        """The answer. Raises VlmendError where there is none to be had."""
        waiting = Waiting(next(self._numbers), request, Future())
        with self._lock:  # nothing is put behind the last one
            if self._ended:
                raise ModelError(ENDING)
            self._waiting.put(waiting)
        return waiting.answer.result()

    def close(self) -> None:
        """Finish what is being answered; what waits is told that nobody will."""
        with self._lock:
            self._ended = True
            for _ in self.threads:
                self._waiting.put(None)
        for thread in self.threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < self._most and not last:
                try:
                    more = self._waiting.get(timeout=GATHER)
                except queue.Empty:
                    break
                last = more is None
                batch += [more] if more is not None else []
            if self._ended:
                _fail(batch, ModelError(ENDING))
            else:
                self._answer(batch)
            if last:
                return

    def _answer(self, batch: Sequence[Waiting]) -> None:
        """Answer all; where that ends in an error, each alone, so that it is the error of none but the one at fault."""
        open_ = {str(one.number): one for one in batch}
        wanted = [
            defend.Wanted(Asked(Example(name, one.request.prompt), name), one.request.decoding, self.chain)
            for name, one in open_.items()
        ]
        # a judge's model that was away is asked again
        judges = replace(self.models, failures=Counter[str](), down={})
        why: Exception = ModelError("the model said nothing")
        try:
            for response in defend.answers(wanted, self.backend, answers_to, judges, {}, lambda *_: None):
                name = digest(self.fingerprint, response.id, response.text)
                open_.pop(response.id).answer.set_result(replace(response, id=name))
        except Exception as error:  # whatever it is, the next request is to be answered
            if len(batch) > 1:
                for one in open_.values():
                    self._answer([one])
                return
            if not isinstance(error, VlmendError):
                LOG.exception("vlmend: a request could not be answered")
            why = error
        _fail(list(open_.values()), why)


def _fail(some: Sequence[Waiting], error: Exception) -> None:
    for one in some:
        one.answer.set_exception(error)


def unanswered(said: Response) -> str:
    """Why a response is none that can be sent on; empty where it can."""
    return (said.why or "the model failed") if said.finish is Finish.FAILED else ""
