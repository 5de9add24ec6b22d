"""One question of a pipeline: how it is put, what form the answer has to have, and what is done when it has not.

A pipeline reads like a conversation: `seen = yield from LOOK.ask(texts, picture, policy=…)` gives a checked object. An
answer that does not fit is sent back with what is wrong with it, a few times at most; then the question is lost, and
what was said stays on record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from vlmend.data import rows
from vlmend.errors import ConfigError, DataError
from vlmend.judge.refusals.opening import ruling
from vlmend.types import Decoding, Example, Finish, Image, Message, Response, Verdict

Kind = Literal["refused", "unfit", "blocked", "rejected", "unscored"]
R = TypeVar("R")
GENERATOR = "generator"
AGAIN = "That cannot be used: {why}. Send the whole answer again, corrected, and nothing else."


class Given(BaseModel):
    """What an answer has to be: a JSON object with these keys and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Said(Given):
    """Any text that says something, and what a model that thinks said to itself before."""

    text: str
    reasoning: str = ""


T = TypeVar("T", bound=Given)


@dataclass(frozen=True)
class Question:
    """A stage's question: `who` is the part that is asked, `which` the number of the model that has it."""

    stage: str
    prompt: tuple[Message, ...]
    decoding: Decoding
    who: str = GENERATOR
    which: int = 0


@dataclass(frozen=True)
class Check:
    """What a judge is asked: an example, maybe with the answers that are right, and what was said to it."""

    spec: str
    example: Example
    answer: str


@dataclass(frozen=True)
class Loss:
    """Why a stage gave nothing, and what was said.

    refused: the model declined. unfit: its answer never had the form asked for. blocked: its provider filtered it.
    rejected: what was made did not pass a judge, or a check of the pipeline. unscored: the judge did not say; it is
    asked again when the run goes on.
    """

    stage: str
    kind: Kind
    why: str
    said: str = ""


class Lost(Exception):
    """Raised where a question gives nothing; a pipeline that can go on without the answer catches it."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(f"{loss.stage}: {loss.why}")
        self.loss = loss


Making = Generator[Sequence[Question | Check], Sequence[Response | Verdict], R]
"""Yields what is to be asked at once, is sent what was said to each, in order, and returns what comes of it."""


Options = Mapping[str, Sequence[str]]
"""By key of an answer, the texts that it may hold."""
NO_OPTIONS: Options = MappingProxyType({})


@cache
def _schema(gives: type[Given], options: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """The JSON schema of an answer, its keys in the order in which they are to be said."""
    schema = gives.model_json_schema()
    for key, texts in options:
        schema["properties"][key]["enum"] = list(texts)
    return json.dumps(schema)


def _nothing_wrong(given: Any) -> str:
    del given
    return ""


@dataclass(frozen=True)
class Stage(Generic[T]):
    """A question and the form of its answer. Its words are the prompt of the stage's name in the pipeline's file.

    longest: most tokens of an answer. temperature: 0 for the likeliest answer. repairs: how often an unfit answer is
    sent back. declines: whether an answer that declines is one that is asked for. compared: keys that another
    generator's answers are compared by. shows: how many of a start's pictures it is about, where not all.
    """

    name: str
    gives: type[T]
    who: str = GENERATOR
    longest: int = 512
    temperature: float = 0.0
    repairs: int = 2
    declines: bool = False
    compared: tuple[str, ...] = ()
    shows: int | None = None

    def decoding(self, options: Options = NO_OPTIONS) -> Decoding:
        """How an answer is asked for; options are all that a key may hold, for servers that keep to a schema."""
        schema = "" if self.gives is Said else _schema(self.gives, tuple((k, tuple(v)) for k, v in options.items()))
        warm = self.temperature > 0
        return Decoding(
            max_new_tokens=self.longest, do_sample=warm, temperature=self.temperature if warm else 1.0, schema=schema
        )

    def ask(
        self, texts: Mapping[str, str], *pictures: Image, fields: Mapping[str, str],
        check: Callable[[T], str] = _nothing_wrong, options: Options = NO_OPTIONS,
    ) -> Making[T]:  # fmt: skip
        """Put the question about pictures. `fields` fill the prompt's places; `check` says what is wrong with a reply,
        `options` what its keys may hold.

        Raises Lost where no answer fits, ConfigError where the prompt has a place that nothing fills.
        """
        try:
            text = texts[self.name].format(**fields).strip()
        except KeyError as error:
            raise ConfigError(f"prompt {self.name!r} has no value for {{{error.args[0]}}}") from error
        form = "" if self.gives is Said else f"\n\n{form_of(self.gives)}"
        return self.put((Message("user", (*pictures, f"{text}{form}")),), check=check, options=options)

    def put(
        self, prompt: tuple[Message, ...], *, check: Callable[[T], str] = _nothing_wrong, which: int = 0,
        options: Options = NO_OPTIONS,
    ) -> Making[T]:  # fmt: skip
        """Ask with a conversation as it stands; raises as `ask` does."""
        why, text, how = "", "", self.decoding(options)
        for _ in range(self.repairs + 1):
            [response] = yield [Question(self.name, prompt, how, self.who, which)]
            text, found, why = self.read(cast(Response, response), check)
            if found is not None:
                return found
            answered, wrong = Message("assistant", (text,)), Message("user", (AGAIN.format(why=why.rstrip(".")),))
            prompt = (*prompt, answered, wrong) if text else prompt
        raise Lost(Loss(self.name, "unfit", why, text))

    def read(self, response: Response, check: Callable[[T], str] = _nothing_wrong) -> tuple[str, T | None, str]:
        """What was said, what it gives, and, where that is nothing, why. Raises Lost where asking again is no use."""
        text = response.text.strip()
        if response.finish is Finish.BLOCKED:
            raise Lost(Loss(self.name, "blocked", response.why or "filtered by the provider", text))
        if not text:
            return "", None, "nothing was said"
        if response.finish is Finish.LENGTH:
            return text, None, f"it was cut off after {self.longest} tokens; be shorter"
        try:
            found = (
                self.gives.model_validate({"text": text, "reasoning": response.reasoning})
                if self.gives is Said
                else parsed(text, self.gives)
            )
        except DataError as error:
            if ruling(text).refused and not self.declines:
                raise Lost(Loss(self.name, "refused", "the generator declined", text)) from error
            return text, None, str(error)
        if self.gives is Said and not self.declines and ruling(text).refused:
            raise Lost(Loss(self.name, "refused", "the generator declined", text))
        wrong = check(found)
        return text, None if wrong else found, wrong


def judged(
    stage: str,
    spec: str,
    example: Example,
    answer: str,
    question: Literal["refused", "harmful", "correct"],
    wanted: bool,
) -> Making[Verdict]:
    """Have a judge look at an answer. Raises Lost where it does not say what is wanted."""
    [heard] = yield [Check(spec, example, answer)]
    verdict = cast(Verdict, heard)
    said: bool | None = getattr(verdict, question)
    if said is None:
        raise Lost(Loss(stage, "unscored", f"{spec} does not say: {verdict.why}", answer))
    if said is not wanted:
        raise Lost(Loss(stage, "rejected", f"{spec} says {question}: {'yes' if said else 'no'}", answer))
    return verdict


def together(*talks: Making[Any]) -> Making[list[Any]]:
    """Ask several questions at once; the first that is lost loses all."""
    open_ = dict(enumerate(talks))
    found: dict[int, Any] = {}
    heard: dict[int, Sequence[Response | Verdict] | None] = dict.fromkeys(open_)
    while open_:
        asked: dict[int, Sequence[Question | Check]] = {}
        for place, talk in list(open_.items()):
            try:
                said = heard[place]
                asked[place] = next(talk) if said is None else talk.send(said)
            except StopIteration as ended:
                found[place] = ended.value
                del open_[place]
        if not asked:
            break
        replies = list((yield [item for some in asked.values() for item in some]))
        for place, some in asked.items():
            heard[place], replies = replies[: len(some)], replies[len(some) :]
    return [found[place] for place in range(len(talks))]


_FENCED = re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.DOTALL)


def parsed(text: str, gives: type[T]) -> T:
    """The JSON object that a text holds, maybe in a code block or among words. Raises DataError with what is wrong."""
    fenced = _FENCED.search(text)
    start = text.find("{")
    if start < 0:
        raise DataError("it holds no JSON object")
    body = fenced[1] if fenced else text[start : text.rfind("}") + 1] or text[start:]
    return rows.check(gives, rows.parse(body, "the JSON object"), "the JSON object")


def form_of(gives: type[Given]) -> str:
    """How an answer should look, in words for a model."""
    keys = [f'- "{name}": {_kind(field)}{_told(field)}' for name, field in gives.model_fields.items()]
    return "Reply with one JSON object and nothing else. Its keys:\n" + "\n".join(keys)


def _told(field: FieldInfo) -> str:
    return f"; {field.description}" if field.description else ""


def _kind(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if options := get_args(kind) if getattr(kind, "__origin__", None) is Literal else ():
        return "one of " + ", ".join(f'"{each}"' for each in options)
    names: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(kind, "a list of texts")
