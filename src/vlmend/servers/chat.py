"""Chat completions: what is sent, and what an answer is. Nothing is sent that a server is known to take no notice of.

Every decoding setting is written out where the kind of server has a word for it, so that defaults of a model's own
files stay out; a setting that it has no word for, and that is not neutral, is refused before anything is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlmend.errors import ConfigError
from vlmend.servers.pictures import Caps, data_url
from vlmend.servers.schemas import SCHEMA_WAYS
from vlmend.types import Decoding, Finish, Image, Message

Kind = Literal["openai", "vllm", "sglang", "llama.cpp", "transformers", "vlmend", "plain"]

FINISHES = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn"), Finish.STOP),
    **dict.fromkeys(("length", "max_tokens"), Finish.LENGTH),
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "prohibited_content"), Finish.BLOCKED),
}
ENDLESS = ("\n\n\n",)  # ends an answer that is to be JSON: some models write line breaks for ever where they may
NEUTRAL = {"num_beams": 1, "top_k": 0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_new_tokens": 0}


class Unreadable(Exception):
    """What came back is no chat completion."""


@dataclass(frozen=True)
class Answer:
    """One of the answers to a request; its tokens and their log-probabilities, where they were asked for and told."""

    text: str
    finish: Finish
    why: str = ""
    reasoning: str = ""
    ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reply:
    """All answers to a request, and the tokens it was charged for; zeros where the server does not say.

    prompt_ids: the prompt's tokens as the server read them, where that was asked for and told. A server of ours tells
    how many `calls` an answer behind defences took, and whether its reasoning was `hurried`.
    """

    answers: tuple[Answer, ...]
    prompt_tokens: int = 0
    tokens: int = 0
    prompt_ids: tuple[int, ...] = ()
    calls: int = 1
    hurried: bool = False


def sampling(decoding: Decoding, kind: Kind, way: str = "response_format") -> dict[str, Any]:
    """The part of a request that comes from the decoding; `way` is the name that the server has for a JSON schema.

    Raises ConfigError for what this kind of server cannot do.
    """
    words = {"transformers": ("num_beams", "top_k", "repetition_penalty", "no_repeat_ngram_size", "min_new_tokens")}
    known = words.get(kind) or tuple(k for k, _ in EXTRAS.get(kind, ()))
    for name, neutral in NEUTRAL.items():
        if name not in known and getattr(decoding, name) != neutral:
            raise ConfigError(f"{kind} servers have no {name}, so {name}={getattr(decoding, name)} cannot be kept")
    body: dict[str, Any] = {"max_completion_tokens" if kind == "openai" else "max_tokens": decoding.max_new_tokens}
    if kind == "transformers":
        body["generation_config"] = json.dumps(_generation_config(decoding), sort_keys=True)
    else:
        body["temperature"] = decoding.temperature if decoding.do_sample else 0
        body["top_p"] = decoding.top_p if decoding.do_sample else 1
        for name, write in EXTRAS.get(kind, ()):
            body |= write(getattr(decoding, name))
    if decoding.schema:
        if kind == "transformers":
            raise ConfigError("transformers serve takes no notice of a JSON schema; use another server")
        if kind == "vlmend":
            raise ConfigError("vlmend serves no JSON schema behind defences; use another server")
        body |= SCHEMA_WAYS[way](json.loads(decoding.schema))
        if kind != "openai":  # whose models that reason take no stop, and which keeps schemas without free space
            body["stop"] = list(ENDLESS)
    return {**body, "store": False}


def _generation_config(decoding: Decoding) -> dict[str, Any]:
    """transformers serve takes the whole of it as JSON text, and then none of the model's own."""
    config: dict[str, Any] = {
        "do_sample": decoding.do_sample,
        "num_beams": decoding.num_beams,
        "repetition_penalty": decoding.repetition_penalty,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "min_new_tokens": decoding.min_new_tokens or None,
    }
    if decoding.do_sample:
        config |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k}
    return config


Writes = Sequence[tuple[str, Callable[[Any], dict[str, Any]]]]
_VLLM: Writes = (
    ("top_k", lambda k: {"top_k": k or -1, "min_p": 0.0}),
    ("repetition_penalty", lambda p: {"repetition_penalty": p}),
    ("min_new_tokens", lambda n: {"min_tokens": n}),
)
EXTRAS: Mapping[str, Writes] = {
    "vllm": _VLLM,
    "sglang": _VLLM,
    "llama.cpp": (
        ("top_k", lambda k: {"top_k": k, "min_p": 0.0}),
        ("repetition_penalty", lambda p: {"repeat_penalty": p}),
    ),
    "vlmend": (*_VLLM, ("thinking_budget", lambda n: {"thinking_budget": n} if n else {})),
}


def takes_n(kind: Kind) -> bool:
    """Whether several answers to one prompt come out of one request."""
    return kind in ("openai", "vllm", "sglang")


def messages(prompt: Sequence[Message], caps: Caps) -> tuple[list[dict[str, Any]], str]:
    """A conversation as chat messages, pictures inline, and what they lost. Raises DataError for unreadable ones."""
    losses: list[str] = []
    seen = 0

    def part(item: str | Image) -> dict[str, Any]:
        nonlocal seen
        if not isinstance(item, Image):
            return {"type": "text", "text": item}
        url, lost = data_url(item, caps)
        seen += 1
        losses.extend([f"picture {seen} {lost}"] if lost else [])
        return {"type": "image_url", "image_url": {"url": url}}

    rows = [{"role": m.role, "content": m.text if _one_text(m) else [part(p) for p in m.parts]} for m in prompt]
    return rows, "; ".join(losses)


def _one_text(message: Message) -> bool:
    return len(message.parts) == 1 and isinstance(message.parts[0], str)


def read_reply(data: object) -> Reply:
    """What a server said. Raises Unreadable when it is no chat completion, or one without answers."""
    if not isinstance(data, dict):
        raise Unreadable("not a JSON object")
    whole: dict[str, Any] = data
    if whole.get("error"):
        raise Unreadable(f"an error with status 200: {error_text(whole)}")
    choices = whole.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unreadable("no choices")
    try:
        ordered = sorted(choices, key=lambda choice: choice.get("index") or 0)
        usage: dict[str, Any] = whole.get("usage") or {}
        ours: dict[str, Any] = whole.get("vlmend") or {}
        answers = tuple(_answer(choice, str(ours.get("why", ""))) for choice in ordered)
        read, written = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        prompt_ids = tuple(map(int, whole.get("prompt_token_ids") or ()))
        calls, hurried = int(ours.get("calls", 1)), bool(ours.get("hurried"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"choices of an unknown shape ({type(error).__name__})") from error
    return Reply(answers, read, written, prompt_ids, calls, hurried)


def _answer(choice: Mapping[str, Any], told: str = "") -> Answer:
    message = choice["message"]
    reason = str(choice.get("finish_reason") or "").lower()
    finish = FINISHES.get(reason, Finish.FAILED)
    refusal, content = message.get("refusal"), message.get("content")
    if isinstance(content, list):  # some proxies send parts
        content = "".join(part.get("text", "") for part in content if part.get("type") == "text")
    if content is not None and not isinstance(content, str):
        raise Unreadable("content that is no text")
    thought = str(message.get("reasoning_content") or message.get("reasoning") or "")
    text = (content or "").strip()
    if refusal and finish is not Finish.BLOCKED:
        return Answer(str(refusal), finish, "the refusal came in a field of its own", thought.strip())
    scored = (choice.get("logprobs") or {}).get("content") or ()
    ids, logps = map(int, choice.get("token_ids") or ()), (float(token["logprob"]) for token in scored)
    return Answer(text, finish, told or _why(finish, reason, text), thought.strip(), tuple(ids), tuple(logps))


def _why(finish: Finish, reason: str, text: str) -> str:
    if finish is Finish.FAILED:
        return f"the server ended the answer with finish_reason {reason or 'null'!r}"
    if finish is Finish.BLOCKED:
        return f"blocked by the server ({reason})"
    return "" if text else "the server's answer is empty"


def error_text(data: object) -> str:
    """The message in an error body of any of the usual shapes, as one short line."""
    found: Any = data
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:299] + "…"
