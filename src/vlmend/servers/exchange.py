"""Many requests to one server: a window of them at a time, tried again where that can help, answers as they come.

The caller's thread decides what starts and takes what has come; a thread of its own keeps the connections alive, so
that a slow caller makes nothing time out. Questions are taken from the caller one at a time, when there is room.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from vlmend.errors import ModelError, VlmendError
from vlmend.interrupt import Interrupt
from vlmend.servers.address import Connections
from vlmend.servers.outcome import Again, Answered, Outcome, Refused
from vlmend.servers.pace import START, Pace

LOG = logging.getLogger("vlmend.servers")
LONGEST_PAUSE = 30.0  # between two tries, unless the server asks for more
LONGEST_AWAY = 5.0  # between two looks whether the server is back
BUSY_TRIES = 50
CONNECT_PATIENCE = 5.0  # before a server was ever reached, a wrong address is likelier than a restart
GIVEN_UP = 25  # requests in a row after which it is asked whether the server is at fault
TICK = 0.2
J = TypeVar("J")
J_contra = TypeVar("J_contra", contravariant=True)


class Ledger(Protocol[J_contra]):
    """Says whether a request can be afforded, and keeps the count."""

    def reserve(self, job: J_contra) -> bool: ...
    def settle(self, job: J_contra, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Rules:
    """When to try again and when to stop."""

    window: int = 32
    retries: int = 5
    patience: float = 300.0
    backoff: float = 0.5


@dataclass(order=True)
class _Try(Generic[J]):
    not_before: float
    number: int
    job: J = field(compare=False)
    failures: int = field(default=0, compare=False)
    refusals: int = field(default=0, compare=False)
    started: float = field(default=0.0, compare=False)


class Exchange(Generic[J]):
    """`jobs` go out through `ask`; iterating gives each job once, with an Answered or a Refused.

    Raises ModelError when the server cannot be reached, refuses everything, stays busy or gives no answer for longer
    than `patience`, or fails GIVEN_UP jobs in a row, and `spent()` when the ledger affords no more; in each case only
    after what was on its way has arrived. What has arrived is handed on before anything new starts.

    `control` asks something harmless in the form of a job, to find out whether the server is at fault or the job; None
    where that cannot be afforded.
    """

    def __init__(
        self,
        to: Connections,
        jobs: Iterator[J],
        ask: Callable[[J], Coroutine[Any, Any, Outcome]],
        rules: Rules,
        ledger: Ledger[J],
        *,
        control: Callable[[J], Coroutine[Any, Any, Outcome | None]],
        spent: Callable[[], VlmendError],
    ) -> None:
        self._to, self._jobs, self._ask, self._rules, self._ledger = to, jobs, ask, rules, ledger
        self._control, self._spent = control, spent
        self.pace = Pace(rules.window)
        self._waiting: list[_Try[J]] = []
        self._flying: dict[Future[Outcome], _Try[J]] = {}
        self._arrived: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        self._random = random.Random(0)
        self._number = 0
        self._held: _Try[J] | None = None  # what the ledger could not afford while others were on their way
        self._stop: VlmendError | None = None
        self._reached = self._answered = False
        self._silent_since: float | None = None  # since when the server only says that it is busy, or nothing
        self._given_up = 0  # jobs in a row

    def __iter__(self) -> Iterator[tuple[J, Answered | Refused]]:
        with Background(self._to) as background, Interrupt() as interrupt:
            told = False
            while True:
                if not (interrupt.signal or self._stop) and self._arrived.empty():
                    self._launch(background)
                if interrupt.signal and self._flying and not told:
                    told = True
                    LOG.warning("vlmend: waiting for %d requests; interrupt again to drop them", len(self._flying))
                if not self._flying and (interrupt.signal or self._stop or not self._more()):
                    break
                done = self._next()
                if done is not None:
                    yield from self._take(done, background)
            if self._stop:
                raise self._stop
            if interrupt.signal:
                interrupt.leave()

    def _more(self) -> bool:
        """Whether anything is left to ask; takes the next job when that is the only way to know."""
        if self._held is None and not self._waiting:
            self._held = self._fresh()
        return self._held is not None or bool(self._waiting)

    def _fresh(self) -> _Try[J] | None:
        job = next(self._jobs, None)
        if job is None:
            return None
        self._number += 1
        return _Try(0.0, self._number, job)

    def _launch(self, background: Background) -> None:
        while self.pace.room(len(self._flying), time.monotonic()):
            chosen = self._choose()
            if chosen is None:
                return
            if not self._ledger.reserve(chosen.job):
                self._held = chosen
                if not self._flying:
                    self._stop = self._spent()
                return
            chosen.started = time.monotonic()
            future = background.run(self._ask(chosen.job))
            self._flying[future] = chosen
            future.add_done_callback(self._arrived.put)

    def _choose(self) -> _Try[J] | None:
        """What is due again goes before what is new."""
        if self._held is not None:
            chosen, self._held = self._held, None
            return chosen
        if self._waiting and self._waiting[0].not_before <= time.monotonic():
            return heapq.heappop(self._waiting)
        if not self._reached and (self._flying or self._waiting):
            return None  # one is enough to find out whether anybody is there
        if len(self._flying) + len(self._waiting) >= max(self._rules.window, START):
            return None  # nothing new while so many failed and wait for their next turn
        return self._fresh()

    def _next(self) -> Future[Outcome] | None:
        try:
            return self._arrived.get(timeout=TICK if self._flying else min(TICK, self._pause()))
        except queue.Empty:
            return None

    def _pause(self) -> float:
        due = max(self._waiting[0].not_before if self._waiting else 0.0, self.pace.resume_at)
        return max(0.001, due - time.monotonic())

    def _take(self, future: Future[Outcome], background: Background) -> Iterator[tuple[J, Answered | Refused]]:
        attempt = self._flying.pop(future)
        try:
            outcome = future.result()
        except CancelledError:
            outcome = Again("cancelled")
        self._ledger.settle(attempt.job, outcome)
        if isinstance(outcome, Again):
            final = self._again(attempt, outcome, background)
        else:
            final = self._final(attempt, outcome, background)
        if final is not None:
            yield attempt.job, final

    def _final(
        self, attempt: _Try[J], outcome: Answered | Refused, background: Background
    ) -> Answered | Refused | None:
        if isinstance(outcome, Refused) and not outcome.sent:
            return outcome
        self._heard()
        self._given_up = 0
        if isinstance(outcome, Answered):
            self._answered = True
            self.pace.well()
            if outcome.wait:
                self._obey(outcome.wait, "its quota is used up")
            return outcome
        everything = outcome.everything
        if not (everything or outcome.blocked or self._answered):
            everything = isinstance(background.run(self._control(attempt.job)).result(), Refused)
            self._answered = not everything
        if everything:
            self._stop = self._stop or ModelError(outcome.why)
            return None
        return outcome

    def _heard(self) -> None:
        self._reached, self._silent_since = True, None

    def _silent(self, now: float) -> float:
        """Seconds without anything but "busy" or nothing at all."""
        self._silent_since = now if self._silent_since is None else self._silent_since
        return now - self._silent_since

    def _again(self, attempt: _Try[J], outcome: Again, background: Background) -> Refused | None:
        """Put it back for later, unless enough was tried. A server that is away or busy is no fault of a question."""
        now = time.monotonic()
        if outcome.slow or outcome.unreached:
            self.pace.slow_down(attempt.started, now)
        if outcome.unreached:
            return self._away(attempt, outcome, now)
        if outcome.busy:
            self._reached = True
            attempt.refusals += 1
            if (silent := self._silent(now)) > self._rules.patience:
                self._stop = self._stop or ModelError(f"busy for {silent:.0f} s: {outcome.why}")
        else:
            attempt.failures += 1
            self._reached = True
            if outcome.late and (silent := self._silent(now)) > self._rules.patience:
                self._doubt(attempt, f"no answer for {silent:.0f} s: {outcome.why}", background)
            elif not outcome.late:
                self._heard()
        if attempt.failures > self._rules.retries or attempt.refusals > BUSY_TRIES:
            self._given_up += 1
            if self._given_up >= GIVEN_UP:
                self._doubt(attempt, f"{self._given_up} requests failed in a row, last: {outcome.why}", background)
            return Refused(f"gave up after {attempt.failures + attempt.refusals} tries: {outcome.why}")
        pause = self._pause_after(attempt)
        if outcome.wait is not None:
            pause = max(pause, outcome.wait)
            self._obey(outcome.wait, outcome.why)
        self._later(attempt, now + pause)
        return None

    def _doubt(self, attempt: _Try[J], why: str, background: Background) -> None:
        """Stop, unless the server answers something harmless: then these questions are at fault, and others are not."""
        if self._stop:
            return
        if isinstance(background.run(self._control(attempt.job)).result(), Answered):
            self._heard()
            self._given_up = 0
        else:
            self._stop = ModelError(why)

    def _away(self, attempt: _Try[J], outcome: Again, now: float) -> None:
        silent = self._silent(now)
        if silent > (self._rules.patience if self._reached else min(CONNECT_PATIENCE, self._rules.patience)):
            self._stop = self._stop or ModelError(outcome.why)
        pause = min(LONGEST_AWAY, max(self._rules.backoff, silent / 4))
        self.pace.wait_until(now + pause)
        self._later(attempt, now + pause)

    def _later(self, attempt: _Try[J], when: float) -> None:
        attempt.not_before = when
        heapq.heappush(self._waiting, attempt)

    def _pause_after(self, attempt: _Try[J]) -> float:
        """Twice as long each time, within a factor of two by chance, so that not all come back at once."""
        longest = min(LONGEST_PAUSE, self._rules.backoff * 2 ** min(10, attempt.failures + attempt.refusals))
        return longest * self._random.uniform(0.5, 1.0)

    def _obey(self, wait: float, why: str) -> None:
        """Everybody waits as long as the server asks; longer than anybody would wait ends the run."""
        if wait > self._rules.patience:
            self._stop = self._stop or ModelError(f"it asks to wait {wait:.0f} s, and patience ends at ({why})")
        self.pace.wait_until(time.monotonic() + wait)


class Background:
    """A thread with an event loop. Leaving it cancels what still runs there and closes the client."""

    def __init__(self, to: Connections) -> None:
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vlmend-servers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start work there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._cancel_all()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._to.aclose()
        await asyncio.get_running_loop().shutdown_default_executor()
