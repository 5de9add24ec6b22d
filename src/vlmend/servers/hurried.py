"""Budgets for thinking on servers that go on with an assistant's last message: reasoning that is open is ended there.

The words go back as text. A server whose tokenizer reads them otherwise than they were drawn goes on behind other
tokens; one whose chat template takes reasoning out of the last turn refuses, and says so.
"""

from __future__ import annotations

from typing import NamedTuple

from vlmend.reasoning import KNOWN, THINK, Tags, end_of, inside
from vlmend.servers.abilities import Asker
from vlmend.servers.chat import Answer, Kind
from vlmend.types import Finish

CONTINUING: tuple[Kind, ...] = ("vllm", "sglang")
CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}
PROMPT_END = 16  # tokens, in which the opening of reasoning shows


class Opened(NamedTuple):
    """Reasoning that the chat template has begun: its tags, and what stands at the end of every prompt."""

    tags: Tags
    text: str


def opened(asker: Asker) -> Opened | None:
    """What the server's prompts end with, where that opens reasoning. None where it cannot be seen."""
    body = {"messages": [{"role": "user", "content": "Hello."}], "add_generation_prompt": True}
    tokens = asker.post(f"{asker.root}/tokenize", body).get("tokens")
    if not isinstance(tokens, list) or not tokens:
        return None
    text = asker.post(f"{asker.root}/detokenize", {"tokens": tokens[-PROMPT_END:]}).get("prompt")
    if not isinstance(text, str):
        return None
    tags = next((tags for tags in KNOWN if text.rstrip().endswith(tags.opening)), None)
    return Opened(tags, text[text.rindex(tags.opening) :]) if tags else None


def ended(answer: Answer, begun: Opened | None) -> tuple[str, str] | None:
    """The turn so far with its reasoning ended, and what ends it; None for one that is in no reasoning, or is whole."""
    if answer.finish is not Finish.LENGTH:
        return None
    if answer.reasoning:  # the server has told it apart
        if answer.text.strip():
            return None
        tags, text = (begun.tags if begun else THINK), answer.reasoning
    else:
        found = inside(answer.text, THINK, begun.tags if begun else None)
        if found is None:
            return None
        tags, text = found, answer.text
    if not tags.begin.match(text.lstrip()):
        text = (begun.text if begun else f"{tags.opening}\n") + text
    return text + end_of(tags), end_of(tags)


def counted(asker: Asker, text: str) -> int:
    """Tokens of a text that goes into a turn; about a token for every four letters where the server does not say."""
    found = asker.post(f"{asker.root}/tokenize", {"prompt": text, "add_special_tokens": False}).get("count")
    return found if isinstance(found, int) else max(1, len(text) // 4)
