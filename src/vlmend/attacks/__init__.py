"""What is done to a request before it is asked: one file per attack, and what they share.

An attack proposes. Whoever runs it (`vlmend.evaluate.attack`) checks that it kept to what it says it changes, names the
variants and judges the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from vlmend.drawing import solid
from vlmend.types import Example, Image, Message, Part, Touched

TEXT: frozenset[Touched] = frozenset({"text"})
PICTURES: frozenset[Touched] = frozenset({"pictures"})
PLACES: frozenset[Touched] = frozenset({"pictures", "places"})
BOTH: frozenset[Touched] = frozenset({"text", "pictures", "places"})


def reworded(example: Example, *, first: Callable[[str], str] = str, last: Callable[[str], str] = str) -> Example:
    """The example with the first text of its last turn, and then the last text, changed; often they are one.

    What stands between pictures stays there. A turn without text gets one.
    """
    *history, turn = example.prompt
    parts = list(turn.parts)
    texts = [at for at, part in enumerate(parts) if isinstance(part, str)]
    if not texts:
        texts = [len(parts)]
        parts.append("")
    for at, change in ((texts[0], first), (texts[-1], last)):
        parts[at] = change(str(parts[at]))
    return replace(example, prompt=(*history, replace(turn, parts=tuple(parts))))


def framed(example: Example, frame: str) -> Example:
    """The example with what `frame` has before and after its one `{request}` put around its request."""
    before, _, after = frame.partition("{request}")
    return reworded(example, first=lambda text: before + text, last=lambda text: text + after)


def repictured(example: Example, change: Callable[[int, Image], Image]) -> Example:
    """The example with each picture replaced by `change(number, picture)`, numbers counting from 0 in order."""
    number = -1
    prompt: list[Message] = []
    for message in example.prompt:
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, Image):
                number += 1
                parts.append(change(number, part))
            else:
                parts.append(part)
        prompt.append(replace(message, parts=tuple(parts)))
    return replace(example, prompt=tuple(prompt))


def covered(example: Example, color: str) -> Example:
    """The example with a surface of one color and the same size in the place of each picture."""
    return repictured(example, lambda _, picture: Image(make=partial(_surface, color, picture)))


def _surface(color: str, picture: Image) -> bytes:
    return solid(color, picture.open().size)


def variants(made: Mapping[str, Example]) -> Example | list[Example]:
    """One variant per name; where there is only one, it is the example itself, changed."""
    if len(made) == 1:
        return next(iter(made.values()))
    return [replace(e, meta={**e.meta, "variant": name}) for name, e in made.items()]
