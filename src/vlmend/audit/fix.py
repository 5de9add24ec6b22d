"""A copy of a data set without what an audit found, measured again: reworded first, then resampled for what is left.

1. Fillers that give the label away (please, kindly, just …) are left out where they stand.
2. First words are shared out alike over both labels, by rule, or by a generator model where a rule's wording is not
   plain.
3. Refusals get different apologies when too many begin alike; what still is one template is capped.
4. Rows are dropped until first words, and the worst features that are left, come with both labels in one proportion, as
   long as that keeps enough of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmend.audit.audit import ANY_WORD, Audit, audit, silent
from vlmend.audit.balance import capped, preference
from vlmend.audit.looks import Tell
from vlmend.audit.measures import Bools
from vlmend.audit.openers import reword_all
from vlmend.audit.prefixes import diversified
from vlmend.audit.resample import Limits, resample
from vlmend.audit.rewriter import Wanted, rewrite
from vlmend.audit.rows import Rows, read
from vlmend.audit.wordings import FILLERS, without
from vlmend.data import clean, export
from vlmend.errors import DataError
from vlmend.store import write_atomic
from vlmend.types import Backend, Example

TEMPLATE = 2  # words that make an answer's opening


@dataclass
class Ledger:
    """What was done to which example."""

    notes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    dropped: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, old: Example, what: str) -> None:
        """Say what was changed in an example."""
        self.notes.setdefault(old.id, []).append(what)

    def drop(self, rows: Rows, keep: Bools, why: str) -> Rows:
        """The rows without those that are not kept."""
        for example, kept in zip(rows.examples, keep.tolist(), strict=True):
            if not kept:
                self.dropped[example.id] = why
        return rows.take(keep)


@dataclass(frozen=True)
class Asked:
    """How a copy is to be made: what decides between equals, the share of rows that must be left, whether rows may be
    dropped for a word that is no first word, and the model that rewords.
    """

    seed: int = 0
    least: float = 0.8
    words: bool = False
    rewriter: Backend | None = None


@dataclass(frozen=True)
class Fixed:
    """The copy, its log, what was done how often, what could not be mended, and the audits before and after."""

    file: Path
    spec: str  # what reads it
    log: Path
    before: Audit
    after: Audit
    actions: Mapping[str, int]
    left: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; the table of changes has the shares of every feature of question and picture."""
        return {
            "file": str(self.file),
            "spec": self.spec,
            "log": str(self.log),
            "examples_before": len(self.before.rows),
            "examples_after": len(self.after.rows),
            "actions": dict(self.actions),
            "left": list(self.left),
            "changes": [
                {"feature": name, "before": old, "after": new} for name, old, new in changes(self.before, self.after)
            ],
            "after": self.after.to_json(),
        }


def changes(before: Audit, after: Audit) -> list[tuple[str, float, float | None]]:
    """Plug-in entropy share of each feature of question and picture, before and after; None where it has none now."""
    features = ((old, after.feature(old.name)) for old in before.features if old.side != "answer")
    return [
        (old.name, old.association.entropy_share, new.association.entropy_share if new else None)
        for old, new in features
    ]


def refuse(out: Path) -> Path:
    """Where the log goes. Raises UsageError when the copy cannot be written to `out`."""
    return clean.refuse(out, copy="fixed", log="log")


def fix(found: Audit, out: Path, asked: Asked, tell: Tell = silent) -> Fixed:
    """Write a copy of an audited source in which what was found is balanced, and audit what was written."""
    log = refuse(out)
    rows, ledger = found.rows, Ledger()
    counts: Counter[str] = Counter()
    left: list[str] = []
    if not rows.labeled.one_sided:
        rows = _without_fillers(rows, found, ledger, counts)
        rows = _reworded(rows, ledger, counts, asked)
        rows = _diversified(rows, found, ledger, counts, asked.seed)
        rows = _resampled(rows, found, ledger, left, asked)
    counts["dropped"] = len(ledger.dropped)
    if not len(rows):
        raise DataError(f"nothing of {found.rows.spec} would be left: no value of a feature comes with both labels")
    written = export.write(rows.examples, "trl", out)
    _write_log(log, found.rows, rows, ledger)
    again = audit(read(written.spec), test=found.test, settings=found.settings, tell=tell)
    return Fixed(out, written.spec, log, found, again, dict(counts), tuple(left))


def _without_fillers(rows: Rows, found: Audit, ledger: Ledger, counts: Counter[str]) -> Rows:
    """Leave out fillers that are among the words that give the label away."""
    telling = [v.value for s in found.verdict.shortcuts for v in s.values if s.feature == ANY_WORD]
    for filler in FILLERS.intersection(telling):
        made: list[Example] = []
        for example, said in zip(rows.examples, rows.words, strict=True):
            inner = filler in said[1:]  # the first word is an opener, and openers are shared out below
            new = _asking(example, without(example.question, filler)) if inner else example
            if inner:
                ledger.note(example, f"without '{filler}'")
                counts["fillers left out"] += 1
            made.append(new)
        rows = Rows(rows.spec, tuple(made))
    return rows


def _reworded(rows: Rows, ledger: Ledger, counts: Counter[str], asked: Asked) -> Rows:
    """Share out first words; a model, if there is one, is asked where a rule's wording is not plain."""
    made = reword_all(rows, asked.seed)
    better: Mapping[str, str] = {}
    if asked.rewriter is not None:
        rough = [(rows.examples[i], new) for i, new in made.items() if not new.plain]
        result = rewrite([Wanted(e.id, e.question, new.opener) for e, new in rough], asked.rewriter)
        better = result.texts
        counts.update({f"by model: {outcome}": n for outcome, n in result.counts.items()})
    examples = list(rows.examples)
    for i, new in made.items():
        old = examples[i]
        how = "by model" if old.id in better else "by rule" if new.plain else "by rule, quoted"
        ledger.note(old, f"first word '{rows.words[i][0]}' to '{new.opener}', {how}")
        counts[f"reworded {how}"] += 1
        examples[i] = _asking(old, better.get(old.id, new.text))
    return Rows(rows.spec, tuple(examples))


def _diversified(rows: Rows, found: Audit, ledger: Ledger, counts: Counter[str], seed: int) -> Rows:
    """Exchange apologies where refusals are one template."""
    side = next(side for side in found.answers if side.side == "refused")
    if side.commonest is None or (side.commonest[1].value or 0.0) < found.settings.thresholds.opening:
        return rows
    examples = list(rows.examples)
    for i, old in enumerate(examples):
        if rows.refused[i] and old.answers:
            new = diversified(old.answers[0], old.id, seed)
            if new != old.answers[0]:
                ledger.note(old, "another apology")
                counts["apologies exchanged"] += 1
                examples[i] = replace(old, answers=(new, *old.answers[1:]))
    return Rows(rows.spec, tuple(examples))


def _resampled(rows: Rows, found: Audit, ledger: Ledger, left: list[str], asked: Asked) -> Rows:
    """Cap templates, then drop rows until no feature that can be balanced gives the label away."""
    order = preference(rows, asked.seed)
    cap = capped(rows, TEMPLATE, found.settings.thresholds.opening, order)
    looks = found.looks.take(cap) if found.looks is not None else None
    rows = ledger.drop(rows, cap, "its answer's opening is over the cap")
    limits = Limits(int(asked.least * len(found.rows)), asked.words, asked.seed)
    result = resample(rows, looks, found.settings, limits)
    left.extend(result.left)
    return ledger.drop(rows, result.keep, f"balanced over {', '.join(result.balanced)}")


def _asking(example: Example, text: str) -> Example:
    *earlier, last = example.prompt
    return replace(example, prompt=(*earlier, last.with_text(text)))


def _write_log(log: Path, before: Rows, after: Rows, ledger: Ledger) -> None:
    """A line for each example that was changed or dropped: what was done, and both texts where they differ."""
    now = {example.id: example for example in after.examples}
    lines: list[str] = []
    for old in before.examples:
        notes, new = ledger.notes.get(old.id, []), now.get(old.id)
        if not notes and new is not None:
            continue
        row: dict[str, Any] = {"id": old.id, "action": "changed" if new else "dropped", "what": notes}
        if new is None:
            row["why"] = ledger.dropped[old.id]
        else:
            said = {"question": (old.question, new.question), "answer": (_answer(old), _answer(new))}
            row |= {key: {"before": one, "after": other} for key, (one, other) in said.items() if one != other}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_atomic(log, "".join(lines).encode("utf-8", "backslashreplace"))


def _answer(example: Example) -> str:
    return example.answers[0] if example.answers else ""
