"""Cards of models: their numbers, changes against the base, a reading; all from the records of the probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlmend.evaluate.asking import Known
from vlmend.evaluate.cells import NONE, chain_of
from vlmend.evaluate.mirage.numbers import (
    Curve,
    Numbers,
    Probed,
    Spoilt,
    by_cell,
    curve,
    numbers,
    probed,
    spoilt,
    under_attack,
)
from vlmend.evaluate.mirage.probes import MirageConfig, Results, Spoiling, Words, ask, attacked, probes, spoiling
from vlmend.evaluate.mirage.reading import About, read
from vlmend.evaluate.mirage.sides import Sides, sides
from vlmend.evaluate.mirage.words import Baseline, baseline, find, look, requests
from vlmend.evaluate.score import EvalResult
from vlmend.judge.controls import marked
from vlmend.judge.controls import marks as wrong
from vlmend.judge.models import Models
from vlmend.metrics import rates
from vlmend.metrics.paired import Change, Shift, change, pair
from vlmend.metrics.rates import everything
from vlmend.metrics.views import judges_of
from vlmend.registry import attacks, suites
from vlmend.suites import records_of
from vlmend.types import Cell, Measure, Measured, Metric, Suite, WritesText


@dataclass(frozen=True)
class Card:
    """One model: its numbers by name (those of SUMMARIES, and of ability), and what they amount to.

    `curve` has attack success word by word, and after any of the first k words. `changes` are paired tests of the plain
    rates against the base. `own` are the suite's other rates of danger and over-refusal, by subset or judge, high
    values bad, which the reading heeds; `suite` are all of its numbers as they are. `spoilt` has what corruptions of
    pictures do, `attacks` the danger under further attacks, `cells` both by what is safe, picture or words.
    """

    model: str
    rates: Numbers
    curve: Curve
    changes: Mapping[str, Change | Shift]
    reading: str
    unchanged: int  # variants that ask what was asked before
    own: Numbers
    suite: Mapping[str, tuple[Measure, Measured]]
    spoilt: Spoilt
    attacks: Numbers
    cells: Mapping[tuple[str, Cell], Measured]
    ability: tuple[str, ...]  # names of numbers whose high values are good

    @property
    def shots(self) -> Numbers:
        """Attack success after each word."""
        return self.curve.words

    def to_json(self) -> dict[str, Any]:
        """The card as plain data."""
        return {
            "model": self.model,
            "reading": self.reading,
            "metrics": self._plain(self.rates),
            "own": self._plain(self.own),
            "suite": {name: rates.as_json(rate, measure) for name, (measure, rate) in self.suite.items()},
            "shots": self._plain(self.shots),
            "curve": {
                "opened": list(self._plain({str(k): r for k, r in enumerate(self.curve.opened, 1)}).values()),
                "control": list(self._plain({str(k): r for k, r in enumerate(self.curve.control, 1)}).values()),
            },
            "corruption": self._corruption() if self.spoilt.cells else None,
            "attacks": {s: {**row, "writes_text": writes_text(s)} for s, row in self._plain(self.attacks).items()},
            "cells": [
                {**cell._asdict(), "measure": name, **self._row(name, rate)}
                for (name, cell), rate in self.cells.items()
            ],
            "changes": {name: asdict(found) for name, found in self.changes.items()},
            "unchanged": self.unchanged,
        }  # fmt: skip

    def _corruption(self) -> dict[str, Any]:
        return {
            "clean": self._plain(self.spoilt.clean),
            "by_severity": {level: self._plain(found) for level, found in self.spoilt.by_level.items()},
            "by_kind": {kind: self._plain(found) for kind, found in self.spoilt.by_kind.items()},
            "cells": {
                kind: {level: self._plain(found) for level, found in levels.items()}
                for kind, levels in self.spoilt.cells.items()
            },
        }

    def _plain(self, found: Numbers) -> dict[str, dict[str, Any]]:
        return {name: self._row(name, rate) for name, rate in found.items()}

    def _row(self, name: str, rate: Measured) -> dict[str, Any]:
        better = "high" if name.removesuffix("_corrupted") in self.ability else "low"
        return rates.as_json(rate, Metric(name, "", everything, lambda _: None, better))


def writes_text(spec: str) -> bool:
    """Whether an attack, or one of a chain, writes words into pictures, by its own declaration."""
    return any(isinstance(one, WritesText) and one.writes_text for one in map(attacks.from_spec, chain_of(spec)))


@dataclass(frozen=True)
class Mirage:
    """The cards of all models, what they are about, the words they were probed with, and what a blind rule scores."""

    config: MirageConfig
    sides: Sides
    words: Words
    baseline: Baseline | None
    cards: tuple[Card, ...]
    results: Mapping[str, Results]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "suite": self.config.suite,
            "measures": {name: {"name": s.title, "summary": s.summary} for name, s in self.sides.both.items()},
            "words": asdict(self.words),
            "thresholds": self.config.thresholds.model_dump(),
            "judges": list(self.config.judges),
            **({"defence": self.config.defence} if self.config.defence != NONE else {}),
            "baseline": self.baseline.to_json(self.sides) if self.baseline else None,
            "cards": [card.to_json() for card in self.cards],
        }


@dataclass(frozen=True)
class _Common:
    """What all cards are made with."""

    config: MirageConfig
    sides: Sides
    words: Words
    spoiling: Spoiling


def mirage(config: MirageConfig, *, models: Models | None = None, quiet: bool = False) -> Mirage:
    """Find the words, ask every model every probe, and make its card. Goes on where it was stopped.

    All judges, and models on servers, are paid from one purse.
    """
    suite: Suite = suites.from_spec(config.suite)
    for spec in (spec for chain in config.attacks for spec in chain_of(chain)):
        attacks.from_spec(spec)  # what is wrong with it is told before anything is asked
    spoiled, asked = spoiling(config.corruption), requests(suite, config.limit)
    about = sides(suite, asked)
    found = look(config, suite, about, asked)
    words = find(config, found, about)
    models = models or config.judging.models()
    known = Known()
    conditions = probes(words, about, config)
    results = {model: ask(config, model, conditions, models, quiet=quiet, known=known) for model in config.all_models}
    records = {
        model: probed({name: records_of(result.run, suite) for name, result in done.items()})
        for model, done in results.items()
    }
    common = _Common(config, about, words, spoiled)
    base = records[config.base] if config.base else None
    known = numbers(base, about) if base else None
    cards = [
        _marked(
            _card(model, found_, results[model]["plain"], None if model == config.base else base, known, common),
            found_, about,
            {
                judge: why
                for name, done in results[model].items()
                for judge, why in wrong(done.run.manifest(), found_[name]).items()
            },
        )
        for model, found_ in records.items()
    ]  # fmt: skip
    return Mirage(config, about, words, baseline(found), tuple(cards), results)


def _card(
    model: str, found: Probed, plain: EvalResult, base: Probed | None, known: Numbers | None, common: _Common
) -> Card:
    """The card of one model from the records of its probes; `known` are the base's numbers."""
    about = common.sides
    changes = {
        name: change(pair(base["plain"], found["plain"]).pairs, side.metric)
        for name, side in about.both.items()
        if base
    }
    suite = {measure.name: (measure, plain.metrics[measure.name]) for measure in plain.measured}
    own = about.parts(suite.values())
    spoiled = spoilt(found, about, common.spoiling)
    lived_by = {name: suite[name][1] for name in about.stakes.instead if name in suite}
    measured = {**numbers(found, about), **lived_by, **spoiled.pooled}
    reading = read(measured, known, common.config.thresholds, own, _about(about, suite, spoiled))
    return Card(
        model, measured, curve(found, about, common.words.opening), changes, reading,
        sum("unchanged" in r.example.meta for records in found.records.values() for r in records), own, suite, spoiled,
        under_attack(found, about, {spec: attacked(spec) for spec in common.config.attacks}),
        by_cell(found, about), tuple(m.name for m in about.ability),
    )  # fmt: skip


def _marked(card: Card, found: Probed, sides: Sides, marks: Mapping[str, str]) -> Card:
    """The card, its numbers marked that were read from judges that have something wrong with them.

    A number that is about no ability is taken to be read from whoever tells danger and over-refusal.
    """
    if not marks:
        return card
    read_by = {measure.name: judges_of(measure, found["plain"]) for measure in sides.ability}
    told_by = [judge for side in sides.both.values() for judge in judges_of(side.metric, found["plain"])]

    def rates_(numbers: Numbers) -> Numbers:
        return {n: marked(r, read_by.get(n.removesuffix("_corrupted"), told_by), marks) for n, r in numbers.items()}

    def steps(row: tuple[Measured, ...]) -> tuple[Measured, ...]:
        return tuple(marked(rate, told_by, marks) for rate in row)

    spoiled = replace(
        card.spoilt, clean=rates_(card.spoilt.clean), together=rates_(card.spoilt.together),
        by_level={level: rates_(row) for level, row in card.spoilt.by_level.items()},
        by_kind={kind: rates_(row) for kind, row in card.spoilt.by_kind.items()},
        cells={
            kind: {level: rates_(row) for level, row in rows.items()} for kind, rows in card.spoilt.cells.items()
        },
    )  # fmt: skip
    shots = Curve(rates_(card.curve.words), steps(card.curve.opened), steps(card.curve.control))
    return replace(
        card, rates=rates_(card.rates), curve=shots, spoilt=spoiled, attacks=rates_(card.attacks),
        cells={cell: marked(rate, told_by, marks) for cell, rate in card.cells.items()},
    )  # fmt: skip


def _about(sides: Sides, suite: Mapping[str, tuple[Measure, Measured]], spoiled: Spoilt) -> About:
    """What the line needs to know beside the numbers."""
    return About(
        over=sides.over.title if sides.over else None,
        ability=tuple(m.name for m in sides.ability),
        apart=sides.apart,
        over_parts=sides.over_parts(suite),
        instead={said: suite[name][1] for name, said in sides.stakes.instead.items() if name in suite},
        spoilt=spoiled,
    )
