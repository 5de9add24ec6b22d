"""Chat completions as a server reads and writes them. What cannot be honored is refused, never left out.

Pictures come inline, as data: URLs. Nothing is fetched for anybody, and no file of this machine is opened.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from secrets import randbits
from typing import Any, Literal, cast

from vlmend.data.turns import from_messages, with_pictures
from vlmend.errors import DataError, brief, nearest
from vlmend.types import Decoding, Finish, Message, Request, Response

DEFAULT_TOKENS = 256
PLAIN_TEXT = {"type": "text"}
INLINE = "pictures come inline, as data: URLs; no file or address is opened for a request"
FORMS = ("model", "messages", "stream", "stream_options")
SETTINGS = {  # by their names in a request; Decoding has the same under others
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
    "thinking_budget": "thinking_budget",
}
NEUTRAL: Mapping[str, tuple[object, ...]] = {  # what changes no answer; any other value is refused
    "n": (1,),
    "best_of": (1,),
    "stop": ([], ""),
    "min_p": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "tools": ([],),
    "response_format": (PLAIN_TEXT,),
    "modalities": (["text"],),
}
UNSEEN = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key")  # say nothing of the answer


class Declined(Exception):
    """A request that is not answered, in one line; `kind` is OpenAI's word for what went wrong."""

    def __init__(self, status: HTTPStatus, why: str, param: str = "", kind: str = "invalid_request_error") -> None:
        super().__init__(why)
        self.status, self.param, self.kind = status, param, kind

    @property
    def body(self) -> dict[str, Any]:
        """The error as such servers write it."""
        told = {"message": str(self), "type": self.kind, "param": self.param or None, "code": int(self.status)}
        return {"error": told}


def bad(why: str, param: str = "") -> Declined:
    """What is wrong with a request."""
    return Declined(HTTPStatus.BAD_REQUEST, why, param)


@dataclass(frozen=True)
class Wish:
    """A request that can be answered, and how the answer is to be sent."""

    request: Request
    stream: bool = False
    usage: bool = False  # as the last piece of a stream


def read(data: bytes, name: str) -> Wish:
    """What is asked of the model of this name. Raises Declined."""
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise bad(f"the body is no JSON: {brief(str(error))}") from error
    if not isinstance(found, dict):
        raise bad("the body should be a JSON object with model and messages")
    body = {key: value for key, value in cast("dict[str, Any]", found).items() if value is not None}
    asked = body.get("model")
    if asked != name:
        why = f"no model {brief(asked)} here; this server has {name}" if asked else f"model is missing; it is {name}"
        raise Declined(HTTPStatus.NOT_FOUND if asked else HTTPStatus.BAD_REQUEST, why, "model")
    _refuse_unknown(body)
    stream, options = body.get("stream", False), body.get("stream_options", {})
    if not isinstance(stream, bool):
        raise bad(f"stream should be true or false, is {brief(stream)}", "stream")
    if not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise bad("stream_options can have include_usage, and nothing else here", "stream_options")
    wish = Request(_conversation(body.get("messages")), _decoding(body))
    return Wish(wish, stream, bool(cast("dict[str, Any]", options).get("include_usage")))


def _refuse_unknown(body: Mapping[str, Any]) -> None:
    known = (*FORMS, *SETTINGS, *NEUTRAL, *UNSEEN)
    for key, value in body.items():
        if key not in known:
            raise bad(f"{brief(key)} cannot be honored here.{nearest(key, known)}", key)
        if key in NEUTRAL and value not in NEUTRAL[key]:
            allowed = json.dumps(NEUTRAL[key][0])
            raise bad(f"{key} {brief(value)} cannot be honored here; leave it out, or say {allowed}", key)


def _conversation(messages: object) -> tuple[Message, ...]:
    unread = Counter[str]()
    try:
        turns = from_messages(messages, "messages", unread)
        if any("://" in url[:16] for turn in turns for url in map(_url, turn.blocks)):
            raise bad(INLINE, "messages")
        prompt = tuple(with_pictures(turns, (), Path(), unread, literal=True))
        for image in (image for message in prompt for image in message.images):
            if image.path is not None:
                raise bad(INLINE, "messages")
            image.open()
    except DataError as error:
        raise bad(str(error), "messages") from error
    if unread:
        raise bad(f"{', '.join(unread)} cannot be honored here", "messages")
    if prompt[-1].role != "user":
        raise bad(f"the last message is to be the user's, and is the {prompt[-1].role}'s", "messages")
    return prompt


def _url(block: object) -> str:
    """Where a picture lies, of a part that shows one as such servers have it."""
    held = cast("dict[str, object]", block).get("image_url") if isinstance(block, dict) else None
    url = cast("dict[str, object]", held).get("url") if isinstance(held, dict) else held
    return url if isinstance(url, str) else ""


def _decoding(body: Mapping[str, Any]) -> Decoding:
    """How the answer is drawn. As with other such servers the temperature is 1 where none is given.

    What is drawn without a seed is drawn anew every time.
    """
    if {"max_tokens", "max_completion_tokens"} <= body.keys():
        raise bad("max_tokens and max_completion_tokens are one setting under two names; say one", "max_tokens")
    temperature = _number(body, "temperature", 1.0, 0.0, 100.0)
    drawn = temperature > 0
    return Decoding(
        max_new_tokens=next((_whole(body, k, 0, 1) for k in list(SETTINGS)[:2] if k in body), DEFAULT_TOKENS),
        min_new_tokens=_whole(body, "min_tokens", 0, 0),
        do_sample=drawn,
        temperature=temperature if drawn else 1.0,
        top_p=_number(body, "top_p", 1.0, 1e-9, 1.0) if drawn else 1.0,
        top_k=max(0, _whole(body, "top_k", 0, -1)) if drawn else 0,
        repetition_penalty=_number(body, "repetition_penalty", 1.0, 1e-9, 100.0),
        seed=_whole(body, "seed", randbits(31) if drawn else 0, 0),
        thinking_budget=_whole(body, "thinking_budget", 0, 0),
    )


def _number(body: Mapping[str, Any], key: str, default: float, least: float, most: float) -> float:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise bad(f"{key} lies between {least:g} and {most:g}, and is {brief(value)}", key)
    return float(value)


def _whole(body: Mapping[str, Any], key: str, default: int, least: int) -> int:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise bad(f"{key} is a whole number from {least}, and is {brief(value)}", key)
    return value


Reason = Literal["stop", "length", "content_filter"]
REASONS: Mapping[Finish, Reason] = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.BLOCKED: "content_filter",
}


def completion(said: Response, name: str) -> dict[str, Any]:
    """An answer as a chat completion. Its usage is that of all calls that were made for it."""
    message = {"role": "assistant", "content": said.text, **_thought(said)}
    choice = {"index": 0, "message": message, "finish_reason": REASONS[said.finish], "logprobs": None}
    return {**_frame(said, name, "chat.completion"), "choices": [choice], "usage": _usage(said), **_told(said)}


def events(said: Response, name: str, *, usage: bool) -> Iterator[bytes]:
    """The same as server-sent events: one piece, how it ended, the usage where that is asked for, and the mark."""
    frame = _frame(said, name, "chat.completion.chunk")
    delta = {"role": "assistant", "content": said.text, **_thought(said)}
    rows: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": REASONS[said.finish]}], **_told(said)},
    ]
    if usage:
        rows.append({"choices": [], "usage": _usage(said)})
    for row in rows:
        yield b"data: " + json.dumps({**frame, **row}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _frame(said: Response, name: str, what: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{said.id}", "object": what, "created": int(time.time()), "model": name}


def _thought(said: Response) -> dict[str, str]:
    return {"reasoning_content": said.reasoning} if said.reasoning else {}


def _usage(said: Response) -> dict[str, int]:
    read_, written = said.prompt_tokens, said.tokens
    return {"prompt_tokens": read_, "completion_tokens": written, "total_tokens": read_ + written}


def _told(said: Response) -> dict[str, Any]:
    """What such servers have no word for: how often a model was asked, what that took, and what is to be known."""
    told: dict[str, Any] = {"calls": said.calls, "seconds": round(said.seconds, 6)}
    return {"vlmend": told | ({"why": said.why} if said.why else {}) | ({"hurried": True} if said.hurried else {})}
