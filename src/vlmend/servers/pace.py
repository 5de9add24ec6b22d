"""How many requests at a time: one more with every round that goes well, half as many when the server has enough."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

START = 4
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Pace:
    """Additive increase, multiplicative decrease, never above `most` nor below one (Chiu and Jain 1989).

    Until the server has had enough for the first time, every round doubles. Times are those of one clock, in seconds.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(START, most))
        self.resume_at = 0.0
        self._slowed_at = -1.0

    def room(self, in_flight: int, now: float) -> bool:
        """Whether one more may start."""
        return now >= self.resume_at and in_flight < int(self.limit)

    def well(self) -> None:
        """A request went well: a whole round of them makes room for one more."""
        more = 1.0 if self._slowed_at < 0 else 1.0 / self.limit
        self.limit = min(float(self.most), self.limit + more)

    def slow_down(self, started: float, now: float) -> None:
        """The server had enough of a request that began at `started`: halve, but once for all that were on the way."""
        if started > self._slowed_at:
            self.limit = max(1.0, self.limit / 2)
            self._slowed_at = now

    def wait_until(self, when: float) -> None:
        """Start nothing before."""
        self.resume_at = max(self.resume_at, when)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a refusal asks to wait, given as seconds, milliseconds or a date; None when it does not ask."""
    exact = headers.get("retry-after-ms", "")
    if _number(exact) is not None:
        return float(exact) / 1000
    text = headers.get("retry-after", "").strip()
    if _number(text) is not None:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def quota_wait(headers: Mapping[str, str]) -> float:
    """Seconds until a used-up quota is filled again, by the rate-limit headers of an answer; 0 while some is left."""
    waits = [0.0]
    for what in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0":
            waits.append(_span(headers.get(f"x-ratelimit-reset-{what}", "")))
    return max(waits)


def _span(text: str) -> float:
    """`6m0s`, `20ms`, `1.5s` or plain seconds."""
    if (plain := _number(text)) is not None:
        return plain
    return sum(float(number) * _SECONDS[unit] for number, unit in _SPAN.findall(text))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else None
