"""MMBench: lettered choices, right only where every rotation of them is answered right (arXiv 2307.06281)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmend.metrics.outcomes import by_rightness
from vlmend.metrics.rates import correct, everything, origin, otherwise, subset
from vlmend.types import Decoding, Measure, Metric, Outcome, Record


@dataclass(frozen=True)
class MmBenchSuite:
    """`mmbench:FILE.tsv`. circular: questions answered right under every rotation of their choices, an answer that
    picks no one option counted as unscored; circular.na_wrong counts it as wrong, which is the published number (there,
    a model reads such answers first, and what it cannot read is guessed at random). vanilla: choices as listed, alone.
    `rotations=false` asks nothing else, and circular is then vanilla.
    """

    path: Path
    rotations: bool = True

    name = "mmbench"
    asks: ClassVar[Mapping[str, str]] = {"right": "choice"}
    judges = ()
    decoding = Decoding(max_new_tokens=64)

    @property
    def protocol(self) -> str:
        """How often a question is asked."""
        return "default" if self.rotations else "vanilla"

    @property
    def sources(self) -> Sequence[str]:
        """The table."""
        return (f"mmbench:{self.path}?rotations={str(self.rotations).lower()}",)

    @property
    def metrics(self) -> Sequence[Measure]:
        """Circular and vanilla accuracy."""
        right = correct()
        whole = otherwise(right, False)
        return (
            Metric("circular", "questions right under all rotations", everything, right, "high", origin, "all"),
            Metric("circular.na_wrong", "questions right under all, of all", everything, whole, "high", origin, "all"),
            Metric("vanilla", "questions right as listed", subset("as_listed"), right, "high"),
            Metric("vanilla.na_wrong", "questions right as listed, of all", subset("as_listed"), whole, "high"),
        )

    def outcome(self, record: Record) -> Outcome:
        """right, wrong or no answer."""
        return by_rightness(record)


plugin = MmBenchSuite
