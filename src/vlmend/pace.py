"""How long what is left of some work will take, once there is something to tell it by, and not before.

What comes first tells nothing of the rest: caches are empty, kernels are chosen, an answer found in the store costs
nothing. So the pace is measured from the first report after `WARM` seconds, and told once `MEASURED` seconds more have
shown it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WARM, MEASURED = 10.0, 10.0
EVERY = 10.0  # seconds from one line of progress to the next


class Pace:
    """The pace of work, from how much of it is reported to be done."""

    def __init__(self, done: int = 0, *, measured: float = MEASURED, clock: Callable[[], float] = time.monotonic):
        self._clock, self._measured = clock, measured
        self._started, self._before = clock(), done
        self._from: tuple[float, int] | None = None
        self._said: float | None = None

    def left(self, done: int, total: int) -> float | None:
        """Seconds that are left now that so much is done; None while that is not known, and at the end."""
        now = self._clock()
        if self._from is None and now - self._started >= WARM and done > self._before:
            self._from = now, done
        if self._from is None or now - self._from[0] < self._measured or not self._from[1] < done < total:
            return None
        return (now - self._from[0]) / (done - self._from[1]) * (total - done)

    def due(self) -> bool:
        """Whether it is time for another line; the first is due at once."""
        now = self._clock()
        if self._said is not None and now - self._said < EVERY:
            return False
        self._said = now
        return True


def spelled(seconds: float | None) -> str:
    """`2:05 left`, `1:00:00 left`, or nothing."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} left" if hours else f"{minutes}:{rest:02d} left"
