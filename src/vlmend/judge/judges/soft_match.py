"""How far an answer agrees with those of several annotators: VQA's soft accuracy, 0 to 1 (arXiv 1505.00468).

An example with a single reference answer is unscored: nobody can be left out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vlmend.judge.models import Models
from vlmend.judge.naming import spec
from vlmend.judge.sifting import Pair
from vlmend.metrics.soft import plain, soft_accuracy
from vlmend.types import Verdict

VERSION = "soft_match/1"


@dataclass(frozen=True)
class SoftMatch:
    """Settings: how answers are compared where all annotators agree: made plain, as elsewhere, or as they stand, letter
    by letter, as VQA's published code does it.
    """

    agreed: Literal["plain", "letters"] = "plain"

    answers: ClassVar[tuple[str, ...]] = ("agrees",)

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return spec("soft_match", self)

    def about(self, models: Models) -> Mapping[str, str]:
        """The rule's version."""
        del models
        return {"version": VERSION}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        del models
        found: list[Verdict] = []
        for example, response in pairs:
            labels = {"version": VERSION}
            given = example.answers if response.said else ()
            score = soft_accuracy(response.text, given, as_coded=self.agreed == "letters")
            why = (
                ""
                if score is not None
                else "fewer than two annotators answered"
                if response.said
                else "nothing was said"
            )
            if score is not None:
                labels["compared"] = plain(response.text)
            found.append(Verdict(self.name, response.id, labels=labels, score=score, why=why))
        return found


plugin = SoftMatch
