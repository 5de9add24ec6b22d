"""Two runs of one suite, example by example: what changed, and whether chance explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmend.errors import UsageError
from vlmend.judge import controls
from vlmend.metrics.outcomes import meaning
from vlmend.metrics.paired import Became, Change, Pairing, Shift, Two, change, flipped, holm, pair, transitions
from vlmend.metrics.questions import bound
from vlmend.metrics.views import Asks, first, judges_of, views
from vlmend.store import Run, find_runs
from vlmend.suites import asked_of, suite_of
from vlmend.terminal import plural
from vlmend.types import Outcome, Record, Suite


@dataclass(frozen=True)
class Comparison:
    """Before and after on one suite. `became` is the outcome of that suite, the first run's, for both sides."""

    before: Run
    after: Run
    pairing: Pairing
    changes: tuple[Change | Shift, ...]
    became: Became

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return str(self.before.settings().get("suite", ""))

    def differing(self) -> dict[str, tuple[Any, Any]]:
        """The settings, and the data sets, that are not the same in both runs."""
        one, other = _about(self.before), _about(self.after)
        keys = dict.fromkeys([*one, *other])
        if not (one["judges"] and other["judges"]):
            keys.pop("judges")
        return {k: (one.get(k), other.get(k)) for k in keys if one.get(k) != other.get(k)}

    @cached_property
    def transitions(self) -> Mapping[tuple[Outcome, Outcome], int]:
        """How many pairs went from which outcome to which, most frequent first."""
        return transitions(self.pairing.pairs, self.became)

    @cached_property
    def flipped(self) -> Sequence[tuple[Outcome, Outcome, Two]]:
        """The pairs whose outcome changed, with both."""
        return flipped(self.pairing.pairs, self.became)

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
                {**_names(b, a), "n": n, "meaning": meaning(b, a)} for (b, a), n in self.transitions.items()
            ],
            "metrics": {c.metric: {**asdict(c), "difference": c.difference} for c in self.changes},
            "flipped": [_flip(b, a, two) for b, a, two in self.flipped],
        }


def _about(run: Run) -> dict[str, Any]:
    """What identifies a run, with the limit, the fingerprint of each data set it was asked from, and who decides what.

    Older runs do not say who decides.
    """
    about = run.manifest()
    data = {row.get("spec", ""): row.get("fingerprint") for row in about.get("data", ())}
    return {**run.settings(), "limit": about.get("limit"), "data": data, "judges": first(about.get("asks", {}))}


def _names(before: Outcome, after: Outcome) -> dict[str, str]:
    return {"before": before.name, "after": after.name, "before_tone": before.tone, "after_tone": after.tone}


def _flip(before: Outcome, after: Outcome, two: Two) -> dict[str, str]:
    return {
        "id": two.before.example.id,
        "change": meaning(before, after),
        **_names(before, after),
        "question_before": two.before.example.question,
        "question_after": two.after.example.question,
        "answer_before": two.before.response.text,
        "answer_after": two.after.response.text,
    }


def compare(before: Path, after: Path) -> list[Comparison]:
    """Compare two run folders suite by suite, every p corrected for how many there are over all suites.

    Raises UsageError when they have no suite, or no example, in common. What only one has is in `left_out`.
    """
    ours, theirs = find_runs(before), find_runs(after)
    both = _joined(ours, theirs)
    if not both:
        told = [", ".join(dict.fromkeys(_suite(run)[0] for run in runs)) for runs in (ours, theirs)]
        raise UsageError(f"{before} and {after} have no suite in common: {told[0]} there, {told[1]} here")
    return _corrected([_compared(a, b) for a, b in both])


def left_out(before: Path, after: Path) -> tuple[list[Run], list[Run]]:
    """The runs of suites that only the first folder has, and those that only the second has."""
    ours, theirs = find_runs(before), find_runs(after)
    both = [run for two in _joined(ours, theirs) for run in two]
    return [run for run in ours if run not in both], [run for run in theirs if run not in both]


def _joined(before: Sequence[Run], after: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Runs of the same suite: by folder, else by what was asked, else by the suite alone, where that names one each.

    Two single runs are compared whatever their suites are called: two protocols may well ask the same.
    """
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    found: dict[Run, Run] = {}
    for same in (_place, _asked, _suite):
        ours = _alone((run for run in before if run not in found), same)
        theirs = _alone((run for run in after if run not in found.values()), same)
        found |= {run: theirs[name] for name, run in ours.items() if name in theirs}
    return [(run, found[run]) for run in before if run in found]


Named = tuple[str, ...]


def _alone(runs: Iterable[Run], name: Callable[[Run], Named]) -> dict[Named, Run]:
    """Runs by a name that no other of them has."""
    named = [(name(run), run) for run in runs]
    times = Counter(key for key, _ in named)
    return {key: run for key, run in named if times[key] == 1}


def _suite(run: Run) -> Named:
    return (str(run.settings().get("suite", "")),)


def _asked(run: Run) -> Named:
    settings = run.settings()
    return *_suite(run), str(settings.get("protocol", "")), *map(str, settings.get("sources", ()))


def _place(run: Run) -> Named:
    return run.folder.name, *_suite(run)


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    corrected = iter(holm([c.p for comparison in comparisons for c in comparison.changes]))
    return [
        replace(comparison, changes=tuple(replace(c, holm=next(corrected)) for c in comparison.changes))
        for comparison in comparisons
    ]


def _compared(before: Run, after: Run) -> Comparison:
    suite = suite_of(before)
    (ours, our_judges), (theirs, their_judges) = _read(before, suite), _read(after, suite)
    paired = pair(ours, theirs)
    if not paired.pairs:
        other = plural(len(paired.other), "id")
        why = f": {other} in both, and none asks the same in both" if paired.other else ""
        raise UsageError(f"{before.folder} and {after.folder} have no example in common{why}")
    marks = controls.marks(before.manifest(), ours), controls.marks(after.manifest(), theirs)
    changes = _changes(suite, paired.pairs, our_judges, their_judges, *marks)
    return Comparison(before, after, paired, changes, suite.outcome)


def _read(run: Run, suite: Suite) -> tuple[list[Record], Asks]:
    """The records, bound to who decides which question, and who answers it."""
    records = run.records()
    asks = asked_of(run, suite, records)
    return [bound(record, first(asks)) for record in records], asks


def _changes(
    suite: Suite,
    pairs: Sequence[Two],
    before: Asks,
    after: Asks,
    wrong: Mapping[str, str],
    wrong_after: Mapping[str, str],
) -> tuple[Change | Shift, ...]:
    """The change of every number that both runs have, those of further judges included, where these say anything.

    `wrong` and `wrong_after` say what is wrong with which judges of either run.
    """
    ours, theirs = [two.before for two in pairs], [two.after for two in pairs]
    by = {measure.name: view for view in views(suite, after, theirs) for measure in view.measures}
    found: list[Change | Shift] = []
    for view in views(suite, before, ours):
        seen = view.records(ours)
        for measure in (m for m in view.measures if m.name in by):
            other = by[measure.name].records(theirs)
            changed = change(list(map(Two, seen, other)), measure)
            both = ("before", seen, wrong), ("after", other, wrong_after)
            marked = [
                f"{when}: {bad[judge]}"
                for when, records, bad in both
                for judge in (judges_of(measure, records) if bad else ())
                if judge in bad
            ]
            changed = replace(changed, marked="; ".join(marked))
            if changed.n or not view.beside:
                found.append(changed)
    return tuple(found)
