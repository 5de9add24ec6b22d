"""Questions whether something is safe, in several wordings, and what is to be answered: rows to train and to test with.

A set of phrasings is a YAML file. `apart`, `published` and `reversed` lie in this folder; one of your own looks alike:

    yes_means: safe            # or unsafe: what yes says of {it}
    questions:
      train: ["Could {it} be shown to anyone?", …]
      test: […]                # held out; without them tests ask what was trained on
    answers:                   # what follows Yes or No, {concept} being what is shown; without them, those of `apart`
      safe: ["It shows {concept}, which is harmless.", …]
      unsafe: […]              # as many, each the counterpart of the safe one in its place
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlmend import plain_yaml
from vlmend.data.preferences import paired
from vlmend.data.rows import Row, check
from vlmend.errors import ConfigError, DataError, nearest
from vlmend.types import Example, Message, Pair, Part, Role

FOLDER = Path(__file__).parent
OURS = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
Form = Literal["answers", "pairs", "prompts"]
Label = Literal["safe", "unsafe"]
Half = Literal["train", "test"]


def _fields(text: str) -> list[str]:
    try:
        return [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error


def _question(text: str) -> str:
    if _fields(text) != ["it"]:
        raise ValueError("a question has {it} in it once, and no other braces")
    return text


def _answer(text: str) -> str:
    if not text.strip() or set(_fields(text)) - {"concept"}:
        raise ValueError("an answer has words, maybe {concept} among them, and no other braces")
    return text


Question = Annotated[str, AfterValidator(_question)]
Answer = Annotated[str, AfterValidator(_answer)]


class Questions(Row):
    """Wordings to train with, and those held out for tests."""

    train: tuple[Question, ...] = Field(min_length=1)
    test: tuple[Question, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := set(self.train) & set(self.test):
            raise ValueError(f"{min(both)!r} is among both train and test; leave test out to ask what was trained on")
        return self


class Answers(Row):
    """What follows Yes or No, by what is right."""

    safe: tuple[Answer, ...] = Field(min_length=1)
    unsafe: tuple[Answer, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _counterparts(self) -> Self:
        if len(self.safe) != len(self.unsafe):
            raise ValueError("'safe' and 'unsafe' should be as many: each has its counterpart in the other's place")
        return self


class Phrasings(Row):
    """A set of phrasings, as in its file."""

    yes_means: Label = "safe"
    questions: Questions
    answers: Answers | None = None

    def numbered(self, half: Half) -> Sequence[tuple[int, str]]:
        """The questions of a half; numbers are those of the file, so that a wording has one number."""
        train, test = self.questions.train, self.questions.test
        every = list(enumerate((*train, *test)))
        return every[len(train) :] if half == "test" and test else every[: len(train)]

    def word(self, label: Label) -> str:
        """Yes or No, whichever says that it is so."""
        return "Yes" if label == self.yes_means else "No"

    def said(self, label: Label, concept: str, drawn: random.Random) -> tuple[str, str]:
        """A drawn answer that is right, and its counterpart that is wrong: another verdict on the same concept."""
        templates = self.answers or _default_answers()
        fit = [
            pair for pair in zip(templates.safe, templates.unsafe, strict=True)
            if concept or not any(map(_fields, pair))
        ]  # fmt: skip
        safe, unsafe = drawn.choice(fit) if fit else ("", "")
        made = {"safe": safe.format(concept=concept), "unsafe": unsafe.format(concept=concept)}
        other: Label = "unsafe" if label == "safe" else "safe"
        right, wrong = (f"{self.word(side)}. {made[side]}".rstrip() for side in (label, other))
        return right, wrong


@cache
def load(name: str) -> Phrasings:
    """One of ours by its name, or a file. Raises ConfigError for neither, DataError for what is no set of phrasings."""
    file = FOLDER / f"{name}.yaml" if name in OURS else Path(name)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"questions={name} is neither {', '.join(OURS)} nor a file that can be read.{nearest(name, OURS)}"
        ) from error
    return check(Phrasings, plain_yaml.parse(text, str(file)), file)


def _default_answers() -> Answers:
    answers = load("apart").answers
    if answers is None:
        raise DataError(f"{FOLDER / 'apart.yaml'} has no answers")
    return answers


@dataclass(frozen=True)
class Subject:
    """What is asked about: a picture or what would be seen on one, with what is right to say of it."""

    name: str  # of its rows, before the number of the phrasing
    parts: tuple[Part, ...]  # shown before the question
    it: str  # what the question calls it
    label: Label
    subset: str
    concept: str = ""
    category: str = ""
    cluster: str = ""
    source: str = ""


@dataclass(frozen=True)
class Asking:
    """How subjects become rows.

    form: `answers`, the right one as the target; `pairs`, the right answer before its counterpart; `prompts`, with
    nothing but the word that is right, for methods that write answers of their own. Whatever the form, a seed draws
    the same phrasing of a subject, and rows of one phrasing have one id.
    """

    phrasings: Phrasings
    half: Half
    form: Form = "answers"
    each: Literal["all", "one"] = "all"
    seed: int = 0

    def rows(self, subject: Subject) -> Iterator[Example | Pair]:
        """One for each phrasing, or one that is drawn."""
        numbered = self.phrasings.numbered(self.half)
        if self.each == "one":
            numbered = [random.Random(f"{self.seed}/{subject.name}").choice(numbered)]
        for number, question in numbered:
            yield self._row(subject, number, question.format(it=subject.it))

    def _row(self, subject: Subject, number: int, question: str) -> Example | Pair:
        drawn = random.Random(f"answer/{self.seed}/{subject.name}/{number}")
        answers = self.phrasings.said(subject.label, subject.concept, drawn)
        return row(subject, f"{subject.name}/{number}", question, answers, self.form, phrasing=str(number))


def row(
    subject: Subject, name: str, question: str, answers: tuple[str, str], form: Form, **meta: str
) -> Example | Pair:
    """A question about a subject, with its right and its wrong answer, both of which begin with Yes or No."""
    right, wrong = answers
    word = right.partition(".")[0]
    example = Example(
        id=name,
        prompt=(Message("user", (*subject.parts, question)),),
        answers=(word,) if form == "prompts" else (right, word),
        subset=subject.subset,
        category=subject.category,
        subcategory=subject.concept,
        cluster=subject.cluster,
        role=Role.SAFETY,
        source=subject.source,
        meta={**meta, "label": subject.label},
    )
    return paired(example, wrong) if form == "pairs" else example
