"""MIS's construction: pictures that are unsafe only together, safety reasoning in stages, and harmless twins.

After Ding et al. 2025 (arXiv 2501.18533, sections 3.1 and 3.2). What each picture is about is found first, then which
pairs could do harm, then an instruction that names neither thing. The label is made in stages: recognize, relate,
judge, answer. Set `reasoning` has MIRage's labels, set `sorry` the same requests with the bare apology that the paper
compares with, and both have a harmless twin of each request, about the same pair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, cast

from pydantic import Field

from vlmend.build.openers import Openers, begins_with, opener_for
from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start, asking
from vlmend.build.stage import GENERATOR, Given, Loss, Lost, Making, Said, Stage, together
from vlmend.build.worded import UnderPolicy, at_least
from vlmend.types import Example, Expected, Role

SORRY = "I'm sorry, but I can't help with that."


class Thing(Given):
    """What a picture is about, and whether it is harmful by itself."""

    thing: str = Field(min_length=1, description="one to three words")
    harmful: bool = Field(description="whether the picture alone breaks the policy")


class Related(Given):
    """Whether two things could do harm together."""

    harmful: bool
    category: str = Field(description="of the policy, word for word; empty where there is no harm")
    risk: str = Field(description="what could come of it, in one sentence; empty where there is no harm")


class Instructed(Given):
    """A request about both pictures."""

    instruction: str = Field(min_length=1, description="what a user would write")


class Recognized(Given):
    """What matters in each picture."""

    first: str = Field(min_length=1, description="one sentence about the first picture")
    second: str = Field(min_length=1, description="one sentence about the second picture")


class Twin(Instructed):
    """A harmless request about both pictures, and its answer."""

    response: str = Field(min_length=1, description="what the assistant says")


THING = Stage("thing", Thing, longest=128, compared=("harmful",), shows=1)
RELATE = Stage("relate", Related, longest=256, compared=("harmful", "category"))
INSTRUCT = Stage("instruct", Instructed, longest=256, temperature=1.0)
RECOGNIZE = Stage("recognize", Recognized, longest=256)
ANSWER = Stage("answer", Said, temperature=1.0, declines=True)
TWIN = Stage("twin", Twin, temperature=1.0)


@dataclass(frozen=True, kw_only=True)
class MIS(UnderPolicy):
    """`mis?taxonomy=…&partners=1&steps=answer|thought&openers=balanced|free&prompts=FILE`.

    partners: with how many of the pictures after it each is paired. steps: what is seen and what could come of it is
    said in the `answer`, as MIRage's labels do, or is also the row's reasoning (`thought`), for models that think.
    openers: as in vlguard; a request and its twin begin alike.
    """

    taxonomy: str = "mis"
    partners: int = 1
    steps: Literal["answer", "thought"] = "answer"
    openers: Openers = "balanced"

    name: ClassVar[str] = "mis"
    begins: ClassVar[Begins] = "pictures"
    parts: ClassVar[Mapping[str, Part]] = {GENERATOR: Part("looks at pairs of pictures and writes about them")}
    stages: ClassVar = (THING, RELATE, INSTRUCT, RECOGNIZE, ANSWER, TWIN)

    def __post_init__(self) -> None:
        at_least(self.name, "partners", self.partners, 1)

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """Each picture with those before it, nearest last."""
        before: deque[Start] = deque(maxlen=self.partners)
        for start in given:
            for other in before:
                yield Start(f"{other.id} + {start.id}", (*other.pictures, *start.pictures))
            before.append(start)

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """Two rows of each set for a pair that is harmful together; nothing for others."""
        del cast
        policy = self.policy.text()
        first, second = yield from self._things(start, policy)
        found = yield from RELATE.ask(
            self.texts,
            *start.pictures,
            fields={"first": first.thing, "second": second.thing, "policy": policy},
            check=lambda given: self.misnamed(given.category) if given.harmful else "",
            options=self.options,
        )
        if not found.harmful:
            return []
        opener = opener_for(start.id, self.openers)
        asked = yield from INSTRUCT.ask(
            self.texts,
            *start.pictures,
            fields={
                "first": first.thing,
                "second": second.thing,
                "category": found.category,
                "risk": found.risk,
                "opener": opener.told,
            },
            check=lambda given: begins_with(opener, given) or _names(given.instruction, first, second),
        )
        seen = yield from RECOGNIZE.ask(self.texts, *start.pictures, fields={"instruction": asked.instruction})
        shown = f"{seen.first} {seen.second}"
        said = yield from ANSWER.ask(
            self.texts,
            *start.pictures,
            fields={"instruction": asked.instruction, "shown": shown, "risk": found.risk},
            check=_no_apology,
        )
        made: list[Draft | Loss] = []
        thought = f"{shown} {found.risk}" if self.steps == "thought" else ""
        for name, answer, expected in (("reasoning", said.text, Expected.REASON), ("sorry", SORRY, Expected.REFUSE)):
            row = Example(
                f"{start.id}/harm", asking(asked.instruction, *start.pictures), (answer,), expected, "harm",
                found.category, cluster=start.id, role=Role.SAFETY, source="build/mis",
                reasoning=thought if name == "reasoning" else "",
            )  # fmt: skip
            made.append(Draft(name, row))
        try:
            twin = yield from TWIN.ask(
                self.texts,
                *start.pictures,
                fields={"first": first.thing, "second": second.thing, "opener": opener.told},
                check=partial(begins_with, opener),
            )
        except Lost as lost:
            return [*made, lost.loss]
        row = Example(
            f"{start.id}/twin", asking(twin.instruction, *start.pictures), (twin.response,), Expected.ANSWER, "twin",
            cluster=start.id, role=Role.UTILITY, source="build/mis",
        )  # fmt: skip
        return [*made, Draft("reasoning", row), Draft("sorry", row)]

    def _things(self, start: Start, policy: str) -> Making[list[Thing]]:
        """What each picture is about. Raises Lost where one is harmful alone."""
        asked = [THING.ask(self.texts, picture, fields={"policy": policy}) for picture in start.pictures]
        things = cast("list[Thing]", (yield from together(*asked)))
        for thing in things:
            if thing.harmful:
                raise Lost(Loss(THING.name, "rejected", f"a picture is harmful alone: {thing.thing}"))
        return things


def _names(instruction: str, *things: Thing) -> str:
    """What is wrong with an instruction that says what the pictures show."""
    named = next((each.thing for each in things if each.thing.lower() in instruction.lower()), "")
    return f'"instruction" names {named!r}; write “the object in the first image”' if named else ""


def _no_apology(said: Said) -> str:
    begins = said.text.lower().lstrip("“\"'").replace("’", "'")
    return "it begins with an apology" if begins.startswith(("i'm sorry", "i am sorry", "sorry", "i apologize")) else ""


plugin = MIS
