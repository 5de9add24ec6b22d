"""What became of one request, by what came back: an answer, a refusal that is final, or a reason to try again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from vlmend.servers.address import Connections, nobody
from vlmend.servers.chat import Reply, Unreadable, error_text, read_reply
from vlmend.servers.pace import quota_wait, retry_after

RETRIED = (408, 409, 425)  # and 429 and all 5xx but those that say "never"
NEVER = (501, 505)
ALL_CONCERNED = (401, 402, 403, 404, 405)
FILTERS = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked")
QUOTA = ("insufficient_quota", "billing_hard_limit_reached")


@dataclass(frozen=True)
class Answered:
    """The server answered; `wait` when its quota is used up by it."""

    reply: Reply
    seconds: float
    wait: float = 0.0


@dataclass(frozen=True)
class Again:
    """Worth another try. `busy`: the server has too much to do. `unreached`: no server was there to be asked.

    `slow`: it may have too much to do. `late`: it said nothing in time.
    """

    why: str
    wait: float | None = None
    busy: bool = False
    slow: bool = False
    unreached: bool = False
    late: bool = False


@dataclass(frozen=True)
class Refused:
    """Final for this request. `blocked`: by a content filter. `everything`: no other request would fare better.

    `sent`: whether anything was asked at all.
    """

    why: str
    blocked: bool = False
    everything: bool = False
    sent: bool = True


Outcome = Answered | Again | Refused


Reader = Callable[[object], Reply]


async def post(to: Connections, url: str, body: bytes, seconds: float, read: Reader = read_reply) -> Outcome:
    """Ask once. The time limit is for the whole exchange, so that a server that drips cannot hold it for ever.

    `read` makes a reply of the JSON that comes back, and raises Unreadable.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        async with asyncio.timeout(seconds):
            response = await to.post(url, body)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Again(nobody(error), unreached=True)
    except (TimeoutError, httpx.TimeoutException):
        return Again(f"no whole answer within {seconds:g} s", slow=True, late=True)
    except httpx.TransportError as error:
        return Again(f"the connection broke off: {str(error) or type(error).__name__}")
    return outcome(response.status_code, response.headers, response.content, clock() - started, read)


def outcome(
    status: int, headers: Mapping[str, str], content: bytes, seconds: float, read: Reader = read_reply
) -> Outcome:
    """What an HTTP answer means."""
    if status != 200:
        return _not_answered(status, headers, _json(content))
    try:
        return Answered(read(json.loads(content)), seconds, quota_wait(headers))
    except (ValueError, RecursionError):
        return Again("the answer is no JSON")
    except Unreadable as error:
        kind = "chat completion" if read is read_reply else "reply that was asked for"
        return Again(f"the answer is no {kind}: {error}")


def _not_answered(status: int, headers: Mapping[str, str], body: Any) -> Outcome:
    why = f"HTTP {status}: {error_text(body)}" if body else f"HTTP {status}"
    marks = json.dumps(body)
    if 300 <= status < 400:
        return Refused(f"{why}: the server moves to {headers.get('location', '?')}; name that address", everything=True)
    if status == 429 and any(mark in marks for mark in QUOTA):
        return Refused(why, everything=True)
    if status in RETRIED or status == 429 or (status >= 500 and status not in NEVER):
        return Again(why, retry_after(headers), busy=status == 429, slow=status in (429, 503, 529))
    if status in (400, 403, 422) and any(f'"{mark}"' in marks for mark in FILTERS):
        return Refused(why, blocked=True)
    return Refused(why, everything=status in ALL_CONCERNED)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace").strip()
