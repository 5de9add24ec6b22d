"""A model's own right answers to harmless rows: what keeps it what it is while it learns something else.

What `train.thinking: keep_own` and the source `keep_own` do in passing, as a set that can be looked at, reviewed and
mixed. Set `replay` has each row with what the model said, its reasoning included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start
from vlmend.build.stage import Loss, Making, Said, Stage, judged
from vlmend.build.worded import at_least
from vlmend.types import Expected, digest

BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Replay:
    """`replay?judge=exact&longest=1024`: rows of any source that are to be answered.

    judge: what says that an answer is right; without it (`judge=`) every answer is one, as is one to a row that has no
    reference. longest: tokens of an answer, its reasoning included; one that is cut off is lost.
    """

    judge: str = "exact"
    longest: int = 1024

    name: ClassVar[str] = "replay"
    begins: ClassVar[Begins] = "rows"
    parts: ClassVar[Mapping[str, Part]] = {BASE: Part("answers as it does now")}
    version: ClassVar[str] = "replay 1"

    def __post_init__(self) -> None:
        at_least(self.name, "longest", self.longest, 1)

    @property
    def made_of(self) -> str:
        """Changes with every option."""
        return digest(self.version, self.judge, self.longest)

    @property
    def stages(self) -> tuple[Stage[Said], ...]:
        """The one that is asked."""
        return (Stage("answer", Said, who=BASE, longest=self.longest, repairs=0),)

    def words(self, stage: str) -> str:
        """None: rows are asked as they stand."""
        del stage
        return ""

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """The rows that are to be answered."""
        return (start for start in given if start.example.expected is Expected.ANSWER)

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """The row with the model's own answer, if that is right."""
        row, [stage], [model] = start.example, self.stages, cast[BASE]
        said = yield from stage.put(row.prompt)
        if self.judge and row.answers:
            yield from judged(stage.name, self.judge, row, said.text, "correct", True)
        meta = {**row.meta, "answered_by": model}
        return [Draft("replay", replace(row, answers=(said.text,), reasoning=said.reasoning, meta=meta))]


plugin = Replay
