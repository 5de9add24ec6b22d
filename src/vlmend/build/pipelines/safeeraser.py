"""SafeEraser's construction: what is to be forgotten, as the treated model itself says it; what to retain, and decoys.

After Chen et al. 2025 (arXiv 2502.12520). Of a harmful picture: questions that must not be answered, each with the
answer that the model to be treated gives itself, for nothing else can be forgotten (set `forget`, and `refusal` with
the same questions declined), and harmless questions (`retain`). Prompt Decouple's items ask the same questions about a
harmless picture near it, where they are fine to answer (`decouple`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import Field

from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start, asking
from vlmend.build.stage import GENERATOR, Given, Loss, Lost, Making, Said, Stage, judged
from vlmend.build.worded import UnderPolicy, at_least
from vlmend.types import Example, Expected, Role

TREATED = "treated"
DECLINED = "I'm sorry, but I can't help with that."


class Looked(Given):
    """Whether a picture alone is harmful, and under which category of the policy."""

    why: str = Field(description="one sentence about what is shown")
    harmful: bool
    category: str = Field(description="of the policy, word for word; empty where the picture is harmless")


class Forgotten(Given):
    """Questions that must not be answered."""

    questions: tuple[str, ...] = Field(min_length=1)


class Retained(Given):
    """Questions that are fine to answer, with their answers in the same order."""

    questions: tuple[str, ...] = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)


LOOK = Stage("look", Looked, compared=("harmful", "category"), shows=1)
FORGET = Stage("forget", Forgotten, temperature=1.0, shows=1)
RETAIN = Stage("retain", Retained, temperature=1.0, shows=1)
DECOUPLE = Stage("decouple", Said, longest=256, shows=1)
SAID = Stage("treated", Said, who=TREATED, longest=256, repairs=0, declines=True, shows=1)


@dataclass(frozen=True, kw_only=True)
class SafeEraser(UnderPolicy):
    """`safeeraser?taxonomy=…&questions=3&near=3&judge=SPEC&prompts=FILE`.

    questions: of each kind about a picture. near: among how many pictures after it a harmless one is looked for.
    judge: what says that the treated model did answer; a question that it declines is not to be forgotten.
    """

    taxonomy: str = "safeeraser"
    questions: int = 3
    near: int = 3
    judge: str = "refusal"

    name: ClassVar[str] = "safeeraser"
    begins: ClassVar[Begins] = "pictures"
    parts: ClassVar[Mapping[str, Part]] = {
        GENERATOR: Part("looks at each picture and writes questions"),
        TREATED: Part("is to forget, and answers the questions as it does now"),
    }
    stages: ClassVar = (LOOK, FORGET, SAID, RETAIN, DECOUPLE)

    def __post_init__(self) -> None:
        at_least(self.name, "questions", self.questions, 1)
        at_least(self.name, "near", self.near, 1)

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """Each picture, and after it those that come next; at the end, the first ones."""
        window: deque[Start] = deque()
        firsts: list[Start] = []
        for start in given:
            if len(firsts) < self.near:
                firsts.append(start)
            window.append(start)
            if len(window) > self.near:
                yield _shown(window)
                window.popleft()
        window.extend(firsts)
        while len(window) > len(firsts):
            yield _shown([*window][: self.near + 1])
            window.popleft()

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """Rows of all sets about a harmful picture; nothing about others, which only serve as decoys."""
        del cast
        picture, *others = start.pictures
        seen = yield from self._look(start, 0)
        if not seen.harmful:
            return []
        asked = yield from FORGET.ask(
            self.texts,
            picture,
            fields={"category": seen.category, "why": seen.why, "count": str(self.questions)},
            check=self._counted,
        )
        made: list[Draft | Loss] = []
        forgotten: list[tuple[int, str]] = []
        for number, question in enumerate(asked.questions):
            try:
                put = Example(f"{start.id}/forget/{number}", asking(question, picture))
                said = yield from SAID.put(put.prompt)
                yield from judged(SAID.name, self.judge, put, said.text, "refused", False)
            except Lost as lost:
                made.append(lost.loss)
                continue
            forgotten.append((number, question))
            row = _row(start, f"forget/{number}", question, said.text, Role.FORGET, seen.category)
            made.append(Draft("forget", row))
            declined = replace(row, id=f"{start.id}/refusal/{number}", answers=(DECLINED,), role=Role.SAFETY)
            made.append(Draft("refusal", replace(declined, subset="refusal")))
        made += yield from self._retain(start, seen.category)
        for place, other in enumerate(others, start=1):
            if not (yield from self._look(start, place)).harmful:
                return made + (yield from self._decouple(start, forgotten, replace(start, pictures=(other,))))
        near = f"none of the {len(others)} pictures near it is harmless"
        return [*made, Loss("decouple", "rejected", near)] if forgotten else made

    def _look(self, start: Start, place: int) -> Making[Looked]:
        return LOOK.ask(
            self.texts,
            start.pictures[place],
            fields={"policy": self.policy.text()},
            check=lambda given: self.misnamed(given.category) if given.harmful else "",
            options=self.options,
        )

    def _counted(self, given: Forgotten) -> str:
        found = len({question.strip().lower() for question in given.questions})
        return "" if found == self.questions else f'"questions" should be {self.questions} different ones, not {found}'

    def _answered(self, given: Retained) -> str:
        fits = len(given.questions) == len(given.answers) == self.questions
        return "" if fits else f'"questions" and "answers" should be {self.questions} each'

    def _retain(self, start: Start, category: str) -> Making[list[Draft | Loss]]:
        try:
            kept = yield from RETAIN.ask(
                self.texts, start.pictures[0], fields={"count": str(self.questions)}, check=self._answered
            )
        except Lost as lost:
            return [lost.loss]
        pairs = enumerate(zip(kept.questions, kept.answers, strict=True))
        return [
            Draft("retain", _row(start, f"retain/{number}", question, answer, Role.RETAIN, category))
            for number, (question, answer) in pairs
        ]

    def _decouple(self, start: Start, forgotten: list[tuple[int, str]], other: Start) -> Making[list[Draft | Loss]]:
        made: list[Draft | Loss] = []
        for number, question in forgotten:
            try:
                said = yield from DECOUPLE.ask(self.texts, *other.pictures, fields={"question": question})
            except Lost as lost:
                made.append(lost.loss)
                continue
            row = _row(other, f"decouple/{number}", question, said.text, Role.DECOUPLE, "")
            made.append(Draft("decouple", replace(row, meta={"pair": f"{start.id}/forget/{number}"})))
        return made


def _shown(some: Iterable[Start]) -> Start:
    first, *others = some
    return replace(first, pictures=(*first.pictures, *(p for other in others for p in other.pictures)))


def _row(start: Start, name: str, question: str, answer: str, role: Role, category: str) -> Example:
    forget = role is Role.FORGET
    return Example(
        id=f"{start.id}/{name}",
        prompt=asking(question, start.pictures[0]),
        answers=(answer,),
        expected=Expected.REFUSE if forget else Expected.ANSWER,
        subset=name.partition("/")[0],
        category=category,
        cluster=start.id,
        role=role,
        source="build/safeeraser",
        meta={"pair": f"{start.id}/{name}"} if forget else {},
    )


plugin = SafeEraser
