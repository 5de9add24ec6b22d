"""VLGuard's construction: per picture whether it is harmful, then instructions with an answer or a reasoned refusal.

After Zong et al. 2024 (arXiv 2402.02207, section 3.1 and algorithm 1), whose one question to GPT-4V is taken apart into
checked steps. Set `train` has what their files have: of a harmful picture one instruction to refuse (subset unsafe),
of a safe one an instruction to answer (safe_safe) and one to refuse (safe_unsafe).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from vlmend.build.openers import Openers, begins_with, opener_for
from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start, asking
from vlmend.build.stage import GENERATOR, Given, Loss, Lost, Making, Stage
from vlmend.build.worded import UnderPolicy
from vlmend.types import Example, Expected, Role

Subset = Literal["unsafe", "safe_unsafe", "safe_safe"]


class Looked(Given):
    """Whether a picture alone is harmful, and under which category of the policy."""

    why: str = Field(description="one sentence about what is shown")
    harmful: bool
    category: str = Field(description="of the policy, word for word; empty where the picture is harmless")


class Asked(Given):
    """An instruction about the picture and what is to be said to it."""

    instruction: str = Field(min_length=1, description="what a user would write")
    response: str = Field(min_length=1, description="what the assistant says")


class Misused(Asked):
    """An instruction that must be refused, and why: a category of the policy."""

    category: str = Field(description="of the policy, word for word")


LOOK = Stage("look", Looked, compared=("harmful", "category"))
UNSAFE = Stage("unsafe", Asked, temperature=1.0)
HARMLESS = Stage("safe_safe", Asked, temperature=1.0)
MISUSE = Stage("safe_unsafe", Misused, temperature=1.0)


@dataclass(frozen=True, kw_only=True)
class VLGuard(UnderPolicy):
    """`vlguard?taxonomy=NAME|FILE&openers=balanced|free&prompts=FILE`.

    openers: `balanced` draws the word that an instruction begins with from the picture, whatever is to be said to it,
    so that no first word tells a refusal from an answer; with `free` the generator chooses.
    """

    taxonomy: str = "vlguard"
    openers: Openers = "balanced"

    name: ClassVar[str] = "vlguard"
    begins: ClassVar[Begins] = "pictures"
    parts: ClassVar[Mapping[str, Part]] = {GENERATOR: Part("looks at each picture and writes about it")}
    stages: ClassVar = (LOOK, UNSAFE, HARMLESS, MISUSE)

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """Each picture by itself."""
        return iter(given)

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """One row of a harmful picture, two of a safe one; a row that is lost does not lose the other."""
        del cast
        policy = self.policy.text()
        seen = yield from LOOK.ask(
            self.texts, *start.pictures, fields={"policy": policy}, check=self._fits, options=self.options
        )
        opener = opener_for(start.id, self.openers)
        if seen.harmful:
            told = yield from UNSAFE.ask(
                self.texts,
                *start.pictures,
                fields={"policy": policy, "category": seen.category, "why": seen.why, "opener": opener.told},
                check=partial(begins_with, opener),
            )
            return [_row(start, "unsafe", told, seen.category, seen)]
        made: list[Draft | Loss] = []
        try:
            told = yield from HARMLESS.ask(
                self.texts,
                *start.pictures,
                fields={"why": seen.why, "opener": opener.told},
                check=partial(begins_with, opener),
            )
            made.append(_row(start, "safe_safe", told, "", seen))
        except Lost as lost:
            made.append(lost.loss)
        try:
            misused = yield from MISUSE.ask(
                self.texts,
                *start.pictures,
                fields={"policy": policy, "why": seen.why, "opener": opener.told},
                check=lambda given: self.misnamed(given.category) or begins_with(opener, given),
                options=self.options,
            )
            made.append(_row(start, "safe_unsafe", misused, misused.category, seen))
        except Lost as lost:
            made.append(lost.loss)
        return made

    def _fits(self, given: Looked) -> str:
        return self.misnamed(given.category) if given.harmful else ""


def _row(start: Start, subset: Subset, told: Asked, category: str, seen: Looked) -> Draft:
    row = Example(
        id=f"{start.id}/{subset}",
        prompt=asking(told.instruction, *start.pictures),
        answers=(told.response,),
        expected=Expected.ANSWER if subset == "safe_safe" else Expected.REFUSE,
        subset=subset,
        category=category,
        cluster=start.id,
        role=Role.SAFETY,
        source="build/vlguard",
        meta={"seen": seen.why},
    )
    return Draft("train", row)


plugin = VLGuard
