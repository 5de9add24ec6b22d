"""An audit of a data set: everything that was measured, and what it amounts to. The object behind `vlmend audit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmend.audit.answers import Concentration, concentrations
from vlmend.audit.baselines import Baseline, baselines
from vlmend.audit.contrasts import RARE, Contrast, contrasts, word_odds
from vlmend.audit.features import Feature, Side, answer_features, picture_features, question_features
from vlmend.audit.looks import Looks, Tell, look
from vlmend.audit.measures import Association, Odds, associate, associate_best, entropy, odds, table
from vlmend.audit.rows import Rows
from vlmend.audit.verdict import Explained, Thresholds, Verdict, judge

ANY_WORD = "any word"


def silent(done: int, total: int) -> None:
    """Tell nobody."""
    del done, total


@dataclass(frozen=True)
class Settings:
    """How far an audit looks: how many first words, whether into pictures, how many rows a table keeps."""

    first_words: int = 3
    pictures: bool = True
    rows: int = 30
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class Measured:
    """One feature: what it explains, and its values by how much each says."""

    name: str
    side: Side
    association: Association
    odds: tuple[Odds, ...]

    @property
    def explained(self) -> Explained:
        """As a verdict takes it."""
        return self.name, self.side, self.association, self.odds

    def to_json(self, most: int) -> dict[str, Any]:
        """The same as plain data, with at most so many values."""
        return {
            "name": self.name,
            "side": self.side,
            **self.association.to_json(),
            "table": [value.to_json() for value in self.odds[:most]],
        }


@dataclass(frozen=True)
class Audit:
    """What was found in a source. Without both labels there is nothing to measure but the answers."""

    rows: Rows
    test: Rows | None
    settings: Settings
    features: tuple[Measured, ...]
    words: tuple[Odds, ...]
    contrasts: tuple[Contrast, ...]
    baselines: tuple[Baseline, ...]
    answers: tuple[Concentration, ...]
    looks: Looks | None
    verdict: Verdict

    @property
    def refused(self) -> int:
        """Examples that are not to be simply answered."""
        return int(self.rows.refused.sum())

    @property
    def picture_note(self) -> str:
        """What could not be said about pictures, in words; empty when there is nothing to say."""
        if self.looks is None:
            return (
                ""
                if self.rows.labeled.one_sided
                else "picture files were not opened: sizes, formats and colors are unknown"
            )
        return self.looks.note

    def feature(self, name: str) -> Measured | None:
        """A feature by name."""
        return next((feature for feature in self.features if feature.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        most = self.settings.rows
        first = self.feature("first word")
        table_ = sorted(first.odds, key=lambda o: (-(o.refused + o.answered), o.value)) if first else []
        return {
            "source": self.rows.spec,
            "test": self.test.spec if self.test else None,
            "examples": len(self.rows),
            "refused": self.refused,
            "answered": len(self.rows) - self.refused,
            "label_entropy": float(entropy(np.bincount(self.rows.refused, minlength=2))),
            "first_word": {
                **(first.association.to_json() if first else {"entropy_share": None}),
                "table": [word.to_json() for word in table_],
            },
            "features": [feature.to_json(most) for feature in self.features],
            "words": [word.to_json() for word in self.words[:most]],
            "contrasts": [contrast.to_json() for contrast in self.contrasts],
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "answers": [side.to_json() for side in self.answers],
            "pictures": {"seen": int(self.looks.seen.sum()) if self.looks else 0, "note": self.picture_note},
            "verdict": self.verdict.to_json(),
        }


def audit(rows: Rows, *, test: Rows | None = None, settings: Settings | None = None, tell: Tell = silent) -> Audit:
    """Measure everything that could give the expected behavior away."""
    asked = settings or Settings()
    answers = tuple(concentrations(rows.examples))
    if rows.labeled.one_sided:
        only = " or ".join(sorted({str(example.expected) for example in rows.examples}))
        verdict = judge((), (), answers, asked.thresholds, one_label=only)
        return Audit(rows, test, asked, (), (), (), (), answers, None, verdict)
    looks = look(rows.examples, tell) if asked.pictures else None
    seen = look(test.examples, tell) if test is not None and asked.pictures else None
    words = tuple(sorted(word_odds(rows), key=lambda word: (-word.share, word.value)))
    features = tuple(measure(rows, looks, asked.first_words, words))
    tried = tuple(baselines(rows, test, (looks, seen)))
    verdict = judge([feature.explained for feature in features], tried, answers, asked.thresholds)
    both = tuple(contrasts(rows, asked.rows))
    return Audit(rows, test, asked, features, words, both, tried, answers, looks, verdict)


def measure(rows: Rows, looks: Looks | None, first_words: int, words: Sequence[Odds]) -> Iterator[Measured]:
    """Every feature of question, picture and answer; `words` are those of the questions, the most telling first."""
    for feature in question_features(rows, first_words):
        yield _one(rows, feature)
    telling = tuple(word for word in words if word.refused + word.answered >= RARE)
    if rows.vocabulary:
        yield Measured(ANY_WORD, "question", associate_best(rows.bag, rows.labeled), telling)
    for feature in (*picture_features(rows, looks), *answer_features(rows)):
        labeled = rows.labeled if feature.rows is None else rows.labeled.take(feature.rows)
        if not labeled.one_sided and len(feature.values) > 1:
            yield _one(rows, feature)


def _one(rows: Rows, feature: Feature) -> Measured:
    labeled = rows.labeled if feature.rows is None else rows.labeled.take(feature.rows)
    counts = table(feature.codes, labeled.refused, len(feature.values))
    told = odds(list(feature.values), counts, counts.sum(axis=1))
    ranked = sorted(told, key=lambda value: (-value.share, value.value))
    return Measured(feature.name, feature.side, associate(feature.codes, labeled), tuple(ranked))
