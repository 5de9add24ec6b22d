"""The page of an audit: the verdict, words by log-odds and count, what explains the label, and what rules score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmend.report.page import Bars, Grid, Prose, Provenance, Rates, Section, Words
from vlmend.report.page import build as build_page
from vlmend.report.tables import Column, RateTable, collect, percent
from vlmend.report.wordmap import Point
from vlmend.terminal import plural

if TYPE_CHECKING:
    from vlmend.audit.audit import Audit, Measured
    from vlmend.audit.fix import Fixed
    from vlmend.audit.measures import Odds

PLOTTED = 40
LISTED = 30


def build(found: Audit, out: Path, fixed: Fixed | None = None) -> Path:
    """Write the page about an audit and, where there is one, its fixed copy."""
    answered = len(found.rows) - found.refused
    lead = f"{plural(len(found.rows), 'example')}, {found.refused:,} to be refused and {answered:,} to be answered."
    return build_page(f"What gives the answer away in {found.rows.spec}", list(sections(found, fixed)), out, lead=lead)


def sections(found: Audit, fixed: Fixed | None = None) -> Iterator[Section]:
    """Everything on the page."""
    yield Prose("Verdict", found.verdict.sentences)
    if fixed is not None:
        yield from _changes(fixed)
    for name, title in (("first word", "First words"), ("any word", "Any word of the question")):
        feature = found.feature(name)
        if feature is not None:
            yield Words(title, tuple(_points(feature.odds)), _about(feature))
            yield Grid(f"{title}, in numbers", HEAD, tuple(map(_row, feature.odds[:LISTED])), NUMBERS)
    if found.features:
        yield Grid("What explains the label", FEATURES, tuple(_features(found.features)), EXPLAINED)
        yield from _contrasts(found)
    if found.baselines:
        rules = _rules(found)
        yield Bars(rules.only(lambda column: column.name in ("asr", "over_refusal")))
        yield Rates(rules, folded=True)
    yield Grid("How reference answers begin", ANSWERS, tuple(_answers(found)))
    yield Provenance(
        {"thresholds": vars(found.verdict.thresholds), "pictures": {"note": found.picture_note or "all seen"}}
    )


HEAD = ("word", "refused", "answered", "log-odds", "95 % interval", "z", "share of entropy %")
NUMBERS = (
    "Log-odds toward refusal with 0.5 added to every cell; the share is what the word alone explains of the label."
)
FEATURES = ("feature", "side", "values", "entropy share %", "held out %", "95 % interval")
EXPLAINED = (
    "Entropy share: I(feature; label) / H(label), as counted. Held out: the same learned on other clusters, which a "
    "feature that is unique per example cannot fake. What stands on the side of the answer follows from the label."
)
ANSWERS = ("answers", "first two words", "k/n", "%", "different texts")
CONTRASTS = {"same_picture": "Same picture, two kinds of questions", "unsafe_picture": "Unsafe picture, safe question"}


def _points(odds: Sequence[Odds]) -> Iterator[Point]:
    for value in odds[:PLOTTED]:
        yield Point(value.value, value.refused, value.answered, value.log_odds)


def _about(feature: Measured) -> str:
    what = feature.association
    return (
        f"{percent(what.entropy_share)} % of the label's entropy as counted, {percent(what.held_out)} % "
        f"[{percent(what.low)}, {percent(what.high)}] on held-out clusters. The {PLOTTED} values that explain most."
    )


def _row(value: Odds) -> tuple[str, ...]:
    interval = f"{value.low:+.2f} to {value.high:+.2f}"
    counts = (value.value, f"{value.refused:,}", f"{value.answered:,}")
    return (*counts, f"{value.log_odds:+.2f}", interval, f"{value.z:+.1f}", percent(value.share))


def _features(features: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    for feature in sorted(features, key=lambda f: (f.side == "answer", -f.association.held_out)):
        what = feature.association
        interval = f"{percent(what.low)} to {percent(what.high)}"
        shares = (percent(what.entropy_share), percent(what.held_out), interval)
        yield feature.name, feature.side, f"{what.values:,}", *shares


def _contrasts(found: Audit) -> Iterator[Section]:
    for contrast in found.contrasts:
        if contrast.first_word is not None:
            explained = (
                f"The first word explains {percent(contrast.first_word.entropy_share)} % of the label's entropy."
            )
            counts = f"{contrast.refused:,} refused and {contrast.answered:,} answered: {contrast.about}. {explained}"
            yield Grid(CONTRASTS[contrast.name], HEAD, tuple(map(_row, contrast.words)), counts)


def _rules(found: Audit) -> RateTable:
    rows = [
        (
            rule.name,
            {Column(name, better="high" if name == "accuracy" else "low"): rate for name, rate in rule.test.items()},
        )
        for rule in found.baselines
    ]
    note = f"Fitted on {found.rows.spec}, scored on {found.baselines[0].tested_on}."
    return collect("What rules score that see no picture, or no text", rows, note)


def _answers(found: Audit) -> Iterator[tuple[str, ...]]:
    for side in found.answers:
        for text, rate in side.openings[2]:
            yield side.side, text or "(no words)", f"{rate.k:,}/{rate.n:,}", percent(rate.value), f"{side.distinct:,}"


def _changes(fixed: Fixed) -> Iterator[Section]:
    from vlmend.audit.fix import changes

    rows = [(name, percent(before), percent(after)) for name, before, after in changes(fixed.before, fixed.after)]
    kept = f"{len(fixed.after.rows):,} of {len(fixed.before.rows):,} examples are left in {fixed.file}."
    done = "; ".join(f"{what} {count:,}" for what, count in fixed.actions.items())
    yield Grid("Before and after: entropy share %", ("feature", "before", "after"), tuple(rows), f"{kept} {done}.")
    yield Prose("Verdict after", fixed.after.verdict.sentences)
