"""What a model says to itself before it answers: told from the answer in one place, for every backend and the codec.

Models mark it with tags of many names. A block counts where it is closed, where the answer begins with it, or where the
tags are the model's own; a closing tag alone ends reasoning that the prompt had opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Literal, NamedTuple

from vlmend.errors import ConfigError
from vlmend.types import Decoding, Finish, Response

CUT = "the answer ended inside its reasoning"


@dataclass(frozen=True)
class Tags:
    """What stands before and after reasoning; `ends` is a pattern where more than one text closes it."""

    opening: str
    closing: str
    ends: str = ""

    @cached_property
    def begin(self) -> re.Pattern[str]:
        """Finds the opening."""
        return re.compile(re.escape(self.opening), re.IGNORECASE)

    @cached_property
    def end(self) -> re.Pattern[str]:
        """Finds what closes it once it is open."""
        return re.compile(self.ends or re.escape(self.closing), re.IGNORECASE)

    @cached_property
    def lone_end(self) -> re.Pattern[str]:
        """Finds what can close nothing else, so that it tells of an opening that is not there."""
        return re.compile(re.escape(self.closing), re.IGNORECASE)


NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "scratchpad", "cot", "seed:think")
FINAL = "<|channel|>final<|message|>"
KNOWN = (
    *(Tags(f"<{name}>", f"</{name}>") for name in NAMES),
    *(Tags(f"[{name}]", f"[/{name}]") for name in ("THINK", "THINKING", "REASONING")),
    Tags("◁think▷", "◁/think▷"),
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
    Tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    Tags("<|channel>thought", "<channel|>"),
    Tags(
        "<|channel|>analysis<|message|>",
        FINAL,
        rf"(?:<\|end\|>\s*)?(?:(?:<\|start\|>)?assistant\s*)?{re.escape(FINAL)}|<\|end\|>",
    ),
)
THINK = KNOWN[0]
# control tokens that such tags are made of: kept when tokens become text, so that there is something to tell by
MARKS = (
    *(text for tags in KNOWN for text in (tags.opening, tags.closing)),
    *("<|channel|>", "<|message|>", "<|channel>", "<channel|>"),
)


class Piece(NamedTuple):
    """A stretch of what was said: a tag, reasoning between tags, or the answer."""

    kind: Literal["tag", "reasoning", "answer"]
    text: str


class Split(NamedTuple):
    """Reasoning and answer without white space around them; `cut`: the reasoning was opened and never closed."""

    reasoning: str
    answer: str
    cut: bool


def pieces(text: str, own: Tags = THINK, begun: Tags | None = None) -> list[Piece]:
    """The text taken apart; put together again it is the same. `begun`: tags whose opening was in the prompt."""
    return [piece for piece in _scan(text, own, begun) if piece.text]


def split(text: str, own: Tags = THINK, begun: Tags | None = None) -> Split:
    """What a model said to itself, and what it answered."""
    found = list(_scan(text, own, begun))
    said = {kind: "".join(piece.text for piece in found if piece.kind == kind) for kind in ("reasoning", "answer")}
    return Split(said["reasoning"].strip(), said["answer"].strip(), found[-1].kind == "reasoning")


def inside(text: str, own: Tags = THINK, begun: Tags | None = None) -> Tags | None:
    """The tags of the reasoning that a text ends in; None where it ends in none."""
    if not split(text, own, begun).cut:
        return None
    return begun or next((tags for tags in (own, *KNOWN) if tags.begin.match(text.lstrip())), own)


def check_budget(decoding: Decoding) -> None:
    """Raise ConfigError for a budget that leaves nothing for the answer, or that beams would share."""
    if decoding.thinking_budget < 0 or decoding.thinking_budget >= decoding.max_new_tokens:
        raise ConfigError(
            f"thinking_budget {decoding.thinking_budget} leaves nothing for the answer of max_new_tokens"
            f" {decoding.max_new_tokens}"
        )
    if decoding.thinking_budget and decoding.num_beams > 1:
        raise ConfigError("thinking_budget and num_beams > 1 exclude each other")


def first_step(decoding: Decoding) -> Decoding:
    """How a response is decoded as far as its budget for thinking goes."""
    budget = decoding.thinking_budget
    least = min(decoding.min_new_tokens, budget)
    return replace(decoding, max_new_tokens=budget, min_new_tokens=least, thinking_budget=0)


def second_step(decoding: Decoding, said: int, sample: int) -> Decoding:
    """How the rest of one is decoded of which there are so many tokens."""
    return replace(
        decoding, max_new_tokens=decoding.max_new_tokens - said, min_new_tokens=max(0, decoding.min_new_tokens - said),
        thinking_budget=0, num_return_sequences=1, first_sample=sample,
    )  # fmt: skip


def end_of(tags: Tags) -> str:
    """What is put behind reasoning that is ended from outside."""
    return f"\n{tags.closing}\n\n"


def leading(text: str) -> tuple[str, str]:
    """The thought that a text begins with, and what comes after it; no thought, and the text, where there is not both.

    Only a thought that is opened and closed counts: what else looks like a tag is what the text is about.
    """
    found = pieces(text.strip())
    if [piece.kind for piece in found[:3]] != ["tag", "reasoning", "tag"]:
        return "", text
    thought, rest = found[1].text.strip(), "".join(piece.text for piece in found[3:]).strip()
    return (thought, rest) if thought and rest else ("", text)


def written(thought: str, answer: str, tags: Tags = THINK) -> str:
    """A thought and the answer after it as one text, as nearly all models write them that mark it by tags."""
    return f"{tags.opening}\n{thought}\n{tags.closing}\n\n{answer}"


def told_apart(response: Response, own: Tags = THINK, begun: Tags | None = None) -> Response:
    """The response with its reasoning apart from its text; one that ended inside it is no answer, and says so.

    What a server has told apart already stays so. Text without reasoning is left as it is, white space and all.
    """
    if response.finish not in (Finish.STOP, Finish.LENGTH):
        return response
    if response.reasoning:
        thought, answer, cut = response.reasoning, response.text, not response.text.strip()
    else:
        thought, answer, cut = split(response.text, own, begun)
        answer = answer if thought or cut else response.text
    if cut and not answer:
        why = response.why if CUT in response.why else "; ".join(filter(None, (CUT, response.why)))
        return replace(response, text="", reasoning=thought, finish=Finish.LENGTH, why=why)
    return replace(response, text=answer, reasoning=thought)


def _scan(text: str, own: Tags, begun: Tags | None) -> Iterator[Piece]:
    known = tuple(dict.fromkeys((own, *KNOWN)))
    inside = _open_before(text, known, begun)
    position, answered = 0, False
    while True:
        if inside is None:
            tag = _opening(text, position, known, own, answered)
            end = tag[1].start() if tag else len(text)
            yield Piece("answer", text[position:end])
            answered = answered or bool(text[position:end].strip())
            if tag is None:
                return
            inside, match = tag
        else:
            match = inside.end.search(text, position)
            if match is None:
                yield Piece("reasoning", text[position:])
                return
            yield Piece("reasoning", text[position : match.start()])
            inside = None
        yield Piece("tag", match[0])
        position = match.end()


def _open_before(text: str, known: tuple[Tags, ...], begun: Tags | None) -> Tags | None:
    """The tags that are open when the text begins: those of the prompt, or whose closing comes without an opening."""
    if begun is not None:
        return None if begun.begin.match(text.lstrip()) else begun
    closed = [(match.start(), tags) for tags in known if (match := tags.lone_end.search(text))]
    for start, tags in sorted(closed, key=lambda found: found[0]):
        if not any(t.begin.search(text[:start]) for t in known):
            return tags
    return None


def _opening(
    text: str, position: int, known: tuple[Tags, ...], own: Tags, answered: bool
) -> tuple[Tags, re.Match[str]] | None:
    """The next place where reasoning begins."""
    found: list[tuple[Tags, re.Match[str]]] = []
    for tags in known:
        match = tags.begin.search(text, position)
        if match is None:
            continue
        leading = not answered and not text[position : match.start()].strip()
        if leading or tags == own or tags.end.search(text, match.end()):
            found.append((tags, match))
    return min(found, key=lambda one: one[1].start(), default=None)


@cache
def tags_of(opening: str, closing: str) -> Tags:
    """Tags of these texts: known ones where they are."""
    return next((t for t in KNOWN if (t.opening, t.closing) == (opening, closing)), Tags(opening, closing))
