"""Things that answer: one file per backend, and the identity of what they say."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

from vlmend.errors import DataError, UsageError
from vlmend.reasoning import split, tags_of
from vlmend.types import Decoding, Example, conversation_key, digest


def response_id(fingerprint: str, example: Example, decoding: Decoding, sample: int = 0) -> str:
    """Hash of model, conversation, pictures, decoding and sample; of the example's id, where a picture is not there.

    How many samples are asked for is no part of it: four answers can become eight without asking for the four again.
    Free text is what it was before schemas: an empty one is no part of it either, nor is a budget of 0.
    """
    try:
        return digest(fingerprint, conversation_key(example.prompt), _how(decoding), sample)
    except DataError:  # to be said by whoever opens the picture
        return digest(fingerprint, "unreadable", example.id, sample)


@lru_cache
def _how(decoding: Decoding) -> dict[str, Any]:
    """What of a decoding decides an answer; read, and never changed."""
    how = {key: value for key, value in asdict(decoding).items() if key not in ("num_return_sequences", "first_sample")}
    for name in ("schema", "thinking_budget"):
        if not how[name]:
            del how[name]
    return how


def refuse_budget(decoding: Decoding, backend: str) -> None:
    """Raise UsageError where a budget for thinking is asked of a backend that cannot end a response's reasoning."""
    if decoding.thinking_budget:
        raise UsageError(
            f"thinking_budget {decoding.thinking_budget}: {backend} cannot end the reasoning of an answer and go on;"
            " models that transformers or vLLM loads here can, and servers of kind vllm, sglang and vlmend"
        )


def split_reasoning(text: str, tags: tuple[str, str], begun: bool = False) -> tuple[str, str]:
    """What a model said to itself between two tags (or other known ones), and what it answered.

    `begun`: the first tag was in the prompt already. It is also taken as said where only the second one is. What is
    opened and never closed answers nothing.
    """
    own = tags_of(*tags)
    found = split(text, own, own if begun else None)
    return found.reasoning, found.answer
