"""What sources of visual questions share: annotators' answers, and LLaVA's files of questions as its scripts ask them.

A file of LLaVA's (`llava_*.jsonl`: question_id, image, text, category) holds no answers; it says which questions of a
published set are asked, in which order and in which words. Answers come from the set itself, joined by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ConfigDict

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, read
from vlmend.errors import DataError, brief
from vlmend.types import Example, Image, Message

ASK = "Answer with one word or a short phrase."


class Wording(Row):
    """A line of a file of LLaVA's; what else it says is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    question_id: int | str
    image: Filled
    text: Filled


def most_given_first(answers: Iterable[str]) -> tuple[str, ...]:
    """All annotators' answers, the one that most of them gave first: it is the target in tuning."""
    given = list(answers)
    counts = Counter(given)
    return tuple(sorted(given, key=lambda text: -counts[text]))


def asked(picture: Image, question: str) -> tuple[Message, ...]:
    """The picture and the question, with a request for a short answer."""
    return (Message("user", (picture, f"{question}\n{ASK}")),)


def as_worded(examples: Iterable[Example], file: Path | None) -> Iterator[Example]:
    """Those examples that a file of LLaVA's asks, in its order and words; all of them where there is none.

    Joined by the id's last part, or what the set's files call the example (`meta["known_as"]`). Ids that several share,
    as those of TextVQA's pictures, are told apart by the question, which is the first line of the text. Raises
    DataError for a line that fits none of them.
    """
    if file is None:
        yield from examples
        return
    known: dict[str, list[Example]] = {}
    for example in examples:
        for name in {example.id.rpartition("/")[2], example.meta.get("known_as", "")} - {""}:
            known.setdefault(name, []).append(example)
    for number, line in read(file, Wording, ".jsonl"):
        found = _meant(known.get(str(line.question_id), []), line)
        if found is None:
            raise DataError(
                f"{file} line {number + 1}: the set has no question {brief(str(line.question_id))} with these words"
            )
        yield replace(found, prompt=(Message("user", (*found.images, line.text)),))


def _meant(candidates: Sequence[Example], line: Wording) -> Example | None:
    if len(candidates) == 1:
        return candidates[0]
    first = line.text.partition("\n")[0].strip().casefold()
    return next((e for e in candidates if e.question.partition("\n")[0].strip().casefold() == first), None)


def drawn_splits(seed: int) -> list[tuple[str, list[Example]]]:
    """Questions about one drawn picture each, twelve to train on and twelve others, for a small set as published."""
    drawn = [e for e in samples.requests("utility", 120, seed=seed) if len(e.images) == 1]
    return [("train", drawn[:12]), ("val", drawn[12:24])]


def first_there(places: Sequence[Path]) -> Path:
    """The first of these folders or files that is there, else the first."""
    return next((place for place in places if place.exists()), places[0])
