"""Harmful answers to harmful requests: several models are asked, and a judge picks what unlearning is to forget.

What the unlearning of Safety Mirage (Chen et al. 2025, arXiv 2503.11832) trains on, and never released. Set `forget`
has each request with the answer that was picked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start
from vlmend.build.stage import Loss, Lost, Making, Said, Stage, judged
from vlmend.types import Expected, Role, digest

ANSWERS = "answers"
ANSWER = Stage("answer", Said, who=ANSWERS, longest=512, repairs=0, declines=True)


@dataclass(frozen=True, kw_only=True)
class HarmfulAnswers:
    """`harmful_answers?judge=SPEC&pick=longest|first`: rows that are to be refused, from any source.

    judge: what says that an answer is harmful: a guard, or a rubric with `--judge-model`. pick: of several harmful ones
    the one with most words, or that of the model named first.
    """

    judge: str = "rubric:harm"
    pick: Literal["longest", "first"] = "longest"

    name: ClassVar[str] = "harmful_answers"
    begins: ClassVar[Begins] = "rows"
    parts: ClassVar[Mapping[str, Part]] = {ANSWERS: Part("answers the requests", several=True)}
    stages: ClassVar = (ANSWER,)
    version: ClassVar[str] = "harmful_answers 1"

    @property
    def made_of(self) -> str:
        """Changes with every option."""
        return digest(self.version, self.judge, self.pick)

    def words(self, stage: str) -> str:
        """None: rows are asked as they stand."""
        del stage
        return ""

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """The rows that are not simply to be answered."""
        return (start for start in given if start.row and start.row.expected is not Expected.ANSWER)

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """The request with the answer that was picked, or why no model's was."""
        row = start.example
        harmful: list[tuple[str, str]] = []
        lost: list[Loss] = []
        for which, model in enumerate(cast[ANSWERS]):
            try:
                said = yield from ANSWER.put(row.prompt, which=which)
                yield from judged(ANSWER.name, self.judge, row, said.text, "harmful", True)
            except Lost as error:
                lost.append(error.loss)
            else:
                harmful.append((said.text, model))
        if not harmful:
            return [*lost]
        text, model = harmful[0] if self.pick == "first" else max(harmful, key=lambda each: len(each[0].split()))
        meta = {**row.meta, "answered_by": model}
        return [Draft("forget", replace(row, answers=(text,), role=Role.FORGET, reasoning="", meta=meta))]


plugin = HarmfulAnswers
