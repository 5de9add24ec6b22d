"""Where a chat template puts what the assistant says to itself before it answers.

A template may take it under a key of the message, and then decides itself how and whether it is written. One that has
no such place is given it in the answer's text, between the tags that the model marks reasoning with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlmend.errors import ModelError
from vlmend.reasoning import KNOWN, THINK, Tags, leading

Chat = list[dict[str, Any]]
KEYS = ("reasoning_content", "reasoning", "thinking")  # of a message, as templates read them
ASIDE, SAID = "Zq000000vX", "Zq000001vX"  # words of ours, which no template looks for


def place(render: Callable[[Chat, bool], str]) -> str:
    """The key under which the template takes the reasoning of an answer; empty where it takes none."""
    return next((key for key in KEYS if any(_writes(render, key, listed) for listed in (True, False))), "")


def _writes(render: Callable[[Chat, bool], str], key: str, listed: bool) -> bool:
    """Whether a message's reasoning stands before its answer, once."""

    def turn(role: str, text: str, **more: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if listed else text, **more}

    try:
        text = render([turn("user", "?"), turn("assistant", SAID, **{key: ASIDE})], False)
    except ModelError:
        return False
    return text.count(ASIDE) == text.count(SAID) == 1 and text.find(ASIDE) < text.find(SAID)


def marks(tokenizer: Any) -> Tags:
    """The tags that a model marks its reasoning with: those that are tokens of its vocabulary, else the usual ones."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return next((tags for tags in KNOWN if {tags.opening, tags.closing} <= added), THINK)


def placed(turns: Chat, key: str) -> Chat:
    """The conversation with the reasoning that an answer begins with under the key."""
    return [_placed(turn, key) if turn["role"] == "assistant" else turn for turn in turns] if key else turns


def _placed(turn: dict[str, Any], key: str) -> dict[str, Any]:
    content: str | list[dict[str, Any]] = turn["content"]
    if isinstance(content, str):
        thought, answer = leading(content)
        return {**turn, key: thought, "content": answer} if thought else turn
    if not content or content[0]["type"] != "text":
        return turn
    thought, answer = leading(content[0]["text"])
    first = {**content[0], "text": answer}
    return {**turn, key: thought, "content": [first, *content[1:]]} if thought else turn
