"""Dropping rows until nothing that can be balanced gives the label away: first words, then whatever is worst.

Each round balances what the round before has left, so that rows are not cut into ever smaller strata; a feature that
comes back is balanced again. What a picture looks like is balanced by one score, that of the rule that sees nothing
else: strata of such a score balance every number that it is made of (Rosenbaum and Rubin 1983).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlmend.audit.audit import ANY_WORD, Settings, measure
from vlmend.audit.balance import balanced, preference
from vlmend.audit.baselines import image_only, views
from vlmend.audit.contrasts import word_odds
from vlmend.audit.features import LOOK_NAMES, Feature, binned, picture_features, question_features
from vlmend.audit.looks import Looks
from vlmend.audit.measures import Bools, Ints
from vlmend.audit.rows import Rows, numbered
from vlmend.audit.verdict import found_shortcuts

ROUNDS = 8
FIRST_WORD = "first word"
LOOK = "look of the picture"


@dataclass(frozen=True)
class Limits:
    """How many rows must be left, whether words inside questions may cost rows, and what decides between equals."""

    least: int
    words: bool
    seed: int


@dataclass(frozen=True)
class Resampled:
    """Which rows to keep, the features they are balanced over, and those that would have cost too many."""

    keep: Bools
    balanced: tuple[str, ...]
    left: tuple[str, ...]


def resample(rows: Rows, looks: Looks | None, settings: Settings, limits: Limits) -> Resampled:
    """Choose rows in which no feature explains the label, as far as the limits allow. First words come in any case."""
    rank = np.argsort(preference(rows, limits.seed))
    keep = balanced(numbered(rows.first_words())[1], rows.refused, np.argsort(rank).tolist())
    done, left = [FIRST_WORD], list[str]()
    for _ in range(ROUNDS):
        rest, seen = rows.take(keep), looks.take(keep) if looks is not None else None
        name = None if rest.labeled.one_sided else worst(rest, seen, settings, limits, left)
        if name is None:
            break
        chosen = balanced(codes(rest, seen, settings.first_words, name), rest.refused, np.argsort(rank[keep]).tolist())
        if chosen.sum() < limits.least or not chosen.any():
            left.append(name)
            continue
        done.append(name)
        keep[keep] = chosen
    return Resampled(keep, tuple(dict.fromkeys(done)), tuple(left))


def worst(rows: Rows, looks: Looks | None, settings: Settings, limits: Limits, left: list[str]) -> str | None:
    """The feature that gives the label away most, but those in `left`; a word by its name in quotation marks."""
    words = sorted(word_odds(rows), key=lambda word: (-word.share, word.value))
    measured = [feature.explained for feature in measure(rows, looks, settings.first_words, words)]
    for shortcut in found_shortcuts(measured, settings.thresholds):
        name = LOOK if shortcut.feature in LOOK_NAMES else shortcut.feature
        if name == ANY_WORD:
            name = f"word '{words[0].value}'" if limits.words else ""
        if name and name not in left:
            return name
    return None


def codes(rows: Rows, looks: Looks | None, first_words: int, name: str) -> Ints:
    """The values of a feature by its name; where a picture could not be read, a value of its own."""
    if name.startswith("word '"):
        place = rows.vocabulary.index(name[len("word '") : -1])
        return rows.bag[:, [place]].toarray().ravel().astype(np.int64)
    if name == LOOK and looks is not None:
        return look_strata(rows, looks)
    features = (*question_features(rows, first_words), *picture_features(rows, looks))
    return _spread(next(feature for feature in features if feature.name == name), len(rows))


def look_strata(rows: Rows, looks: Looks) -> Ints:
    """Deciles of the score of the rule that sees colors and edges only, apart for each number of pictures shown."""
    (view,) = views([rows], [looks])
    score = binned(LOOK, "picture", image_only(view, view)[looks.seen].tolist(), looks.seen)
    shown = numbered([str(len(example.images)) for example in rows.examples])[1]
    return _spread(score, len(rows)) + (len(score.values) + 1) * shown


def _spread(feature: Feature, n: int) -> Ints:
    """A value's number for every example: one more than all values where there is none."""
    spread = np.full(n, len(feature.values), dtype=np.int64)
    spread[slice(None) if feature.rows is None else feature.rows] = feature.codes
    return spread
