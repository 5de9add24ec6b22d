"""Two runs of one suite, example by example: what changed, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vlmend.errors import UsageError
from vlmend.evaluate.run import suite_of
from vlmend.metrics.outcomes import CHANGES
from vlmend.metrics.paired import Change, Pairing, Shift, Two, change, flipped, holm, pair, transitions
from vlmend.store import Run, find_runs
from vlmend.terminal import plural


@dataclass(frozen=True)
class Comparison:
    """Before and after on one suite."""

    before: Run
    after: Run
    pairing: Pairing
    changes: tuple[Change | Shift, ...]

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return str(self.before.settings().get("suite", ""))

    def differing(self) -> dict[str, tuple[Any, Any]]:
        """The settings, and the data sets, that are not the same in both runs."""
        first, second = _about(self.before), _about(self.after)
        keys = dict.fromkeys([*first, *second])
        return {k: (first.get(k), second.get(k)) for k in keys if first.get(k) != second.get(k)}

    def to_json(self) -> dict[str, Any]:
        """As `vlmend compare --json` prints it."""
        return {
            "suite": self.suite,
            "before": str(self.before.folder),
            "after": str(self.after.folder),
            "differing": {k: {"before": b, "after": a} for k, (b, a) in self.differing().items()},
            "pairs": len(self.pairing.pairs),
            "only_before": list(self.pairing.only_before),
            "only_after": list(self.pairing.only_after),
            "other_question": list(self.pairing.other),
            "transitions": [
                {"before": b, "after": a, "n": n, "meaning": meaning(b, a)}
                for (b, a), n in transitions(self.pairing.pairs).items()
            ],
            "metrics": {c.metric: {**asdict(c), "difference": c.difference} for c in self.changes},
            "flipped": [_flip(b, a, two) for b, a, two in flipped(self.pairing.pairs)],
        }


def _about(run: Run) -> dict[str, Any]:
    """What identifies a run, with the limit and the fingerprint of each data set it was asked from."""
    about = run.manifest()
    data = {row.get("spec", ""): row.get("fingerprint") for row in about.get("data", ())}
    return {**run.settings(), "limit": about.get("limit"), "data": data}


def meaning(before: str, after: str) -> str:
    """What a transition is called."""
    return "unchanged" if before == after else CHANGES.get((before, after), f"{before} → {after}")


def _flip(before: str, after: str, two: Two) -> dict[str, str]:
    return {
        "id": two.before.example.id,
        "change": meaning(before, after),
        "before": before,
        "after": after,
        "question_before": two.before.example.question,
        "question_after": two.after.example.question,
        "answer_before": two.before.response.text,
        "answer_after": two.after.response.text,
    }


def compare(before: Path, after: Path) -> list[Comparison]:
    """Compare two run folders suite by suite, every p corrected for how many there are over all suites.

    Raises UsageError when they have no suite, or no example, in common.
    """
    first, second = find_runs(before), find_runs(after)
    if len(first) == len(second) == 1:
        return _corrected([_compared(first[0], second[0])])
    named = {run.folder.name: run for run in second}
    both = [(run, named[run.folder.name]) for run in first if run.folder.name in named]
    if not both:
        raise UsageError(f"{before} and {after} have no suite in common")
    return _corrected([_compared(a, b) for a, b in both])


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    corrected = iter(holm([c.p for comparison in comparisons for c in comparison.changes]))
    return [
        replace(comparison, changes=tuple(replace(c, holm=next(corrected)) for c in comparison.changes))
        for comparison in comparisons
    ]


def _compared(before: Run, after: Run) -> Comparison:
    paired = pair(before.records(), after.records())
    if not paired.pairs:
        other = plural(len(paired.other), "id")
        why = f": {other} in both, and none asks the same in both" if paired.other else ""
        raise UsageError(f"{before.folder} and {after.folder} have no example in common{why}")
    metrics = suite_of(before).metrics
    return Comparison(before, after, paired, tuple(change(paired.pairs, metric) for metric in metrics))
