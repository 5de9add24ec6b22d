"""Train a small judge from labeled answers: TF-IDF and logistic regression, or an encoder; calibrated, and tested on
clusters that training did not see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlmend.errors import UsageError
from vlmend.judge.labels import QUESTIONS, Labeled
from vlmend.metrics.agreement import Confusion, calibration
from vlmend.metrics.textclass import Description, Floats, Input, Linear, features, recalibrated, softmax
from vlmend.types import digest

FOLDS = 5
HELD_OUT = 0.25
Target = Literal["refused", "harmful", "correct", "label"]


@dataclass(frozen=True)
class Task:
    """Rows that answer one question, split by cluster."""

    target: Target
    labels: tuple[str, ...]
    input: Input
    train: tuple[Labeled, ...]
    held_out: tuple[Labeled, ...]
    data: str

    def index(self, row: Labeled) -> int:
        """The number of the row's label."""
        return self.labels.index(_label(row, self.target))

    def describe(self, kind: Literal["tfidf", "encoder"], temperature: float, held_out: dict[str, Any]) -> Description:
        """What `judge.json` says."""
        return Description(kind, self.target, self.labels, self.input, temperature, self.data, held_out)


def task(rows: Sequence[Labeled], target: str = "", given: Input = "answer", seed: int = 0) -> Task:
    """What is to be learned. Raises UsageError where the labels leave that open or do not suffice."""
    chosen = _target(rows, target)
    usable = [row for row in rows if row.answer and row.answer.strip() and _label(row, chosen)]
    names = sorted({cluster(row) for row in usable})
    order = np.random.default_rng(seed).permutation(len(names))
    away = {names[i] for i in order[: round(HELD_OUT * len(names))]}
    train = tuple(row for row in usable if cluster(row) not in away)
    labels = ("no", "yes") if chosen != "label" else tuple(sorted({_label(row, chosen) for row in usable}))
    for label in labels:
        groups = {cluster(row) for row in train if _label(row, chosen) == label}
        if len(groups) < FOLDS:
            raise UsageError(
                f"{len(groups)} clusters of answers are labeled {chosen}={label}; it takes {FOLDS} or more"
            )
    if len(labels) < 2:
        raise UsageError(f"all answers have the label {labels[0] if labels else 'none'}; there is nothing to learn")
    data = digest([[row.question, row.answer, _label(row, chosen)] for row in usable])
    return Task(chosen, labels, given, train, tuple(row for row in usable if cluster(row) in away), data)


def _target(rows: Sequence[Labeled], wanted: str) -> Target:
    counted = Counter(question for row in rows for question, value in row.says.items() if value is not None)
    counted.update("label" for row in rows if row.label)
    there = [name for name in (*QUESTIONS, "label") if counted[name]]
    if wanted and wanted not in there:
        raise UsageError(f"no answer has a label for {wanted!r}; there are labels for {', '.join(there) or 'nothing'}")
    if not wanted and len(there) != 1:
        raise UsageError(f"there are labels for {', '.join(there) or 'nothing'}; choose one with --target")
    target: Any = wanted or there[0]
    return target


def _label(row: Labeled, target: Target) -> str:
    if target == "label":
        return row.label
    value = row.says.get(target)
    return "" if value is None else ("no", "yes")[value]


def cluster(row: Labeled) -> str:
    """What a row hangs together with: its cluster, or all answers to its question."""
    return row.cluster or row.question or row.id


def train_linear(found: Task, strength: float = 10.0) -> Linear:
    """TF-IDF and logistic regression. The temperature is fitted to logits of rows left out in turn, by cluster."""
    folds = np.array([int(digest(cluster(row)), 16) % FOLDS for row in found.train])
    gold = np.array([found.index(row) for row in found.train])
    logits, place = np.zeros((len(gold), len(found.labels))), np.arange(len(gold))
    for fold in range(FOLDS):
        inside, outside = place[folds != fold], place[folds == fold]
        if len(outside) and len(set(gold[inside])) == len(found.labels):
            fitted = _fit(found, [found.train[i] for i in inside], strength)
            logits[outside] = fitted.logits([asked(found.train[i]) for i in outside])
    judge = _fit(found, found.train, strength)
    judge = recalibrated(judge, fit_temperature(logits, gold), {})
    return recalibrated(judge, judge.about.temperature, held_out_score(found, judge.probabilities))


def _fit(found: Task, rows: Sequence[Labeled], strength: float) -> Linear:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = [features(*asked(row), found.input) for row in rows]
    analyzer: Any = _same
    vectorizer: Any = TfidfVectorizer(analyzer=analyzer, sublinear_tf=True)
    matrix = vectorizer.fit_transform(words)
    model: Any = LogisticRegression(C=strength, max_iter=2000)
    model.fit(matrix, [found.index(row) for row in rows])
    weights, bias = np.asarray(model.coef_).T, np.asarray(model.intercept_)
    if len(found.labels) == 2:  # one column says how much likelier the second label is
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.array([0.0, float(bias[0])])
    vocabulary = {str(word): int(i) for word, i in vectorizer.vocabulary_.items()}
    return Linear(found.describe("tfidf", 1.0, {}), vocabulary, np.asarray(vectorizer.idf_), weights, bias)


def _same(words: Sequence[str]) -> Sequence[str]:
    return words


def asked(row: Labeled) -> tuple[str, str]:
    """Question and answer."""
    return row.question, row.answer or ""


def fit_temperature(logits: Floats, gold: Any) -> float:
    """The T that makes softmax(logits / T) likeliest for the labels (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        rows = softmax(logits / np.exp(log_t))
        return -float(np.log(np.maximum(rows[np.arange(len(gold)), gold], 1e-12)).mean())

    best: Any = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded")
    return float(np.exp(best.x))


def held_out_score(found: Task, probabilities: Any) -> dict[str, Any]:
    """Accuracy on the rows left out; for two labels also precision, recall, ECE and Brier score."""
    rows: Floats = probabilities([asked(row) for row in found.held_out])
    gold = [found.index(row) for row in found.held_out]
    said = [int(i) for i in rows.argmax(axis=1)] if len(rows) else []
    right = sum(a == b for a, b in zip(said, gold, strict=True))
    score: dict[str, Any] = {"n": len(gold), "clusters": len({cluster(row) for row in found.held_out}), "right": right}
    if len(found.labels) == 2 and gold:
        counts = Confusion.of([bool(i) for i in said], [bool(i) for i in gold])
        fit = calibration([float(p) for p in rows[:, 1]], [bool(i) for i in gold])
        shares = {name: getattr(counts, name).value for name in ("precision", "recall", "specificity")}
        score |= {**shares, "kappa": counts.kappa, "ece": fit and fit.ece, "brier": fit and fit.brier}
    return score


def train(found: Task, out: Path, encoder: str = "", seed: int = 0, epochs: int = 4) -> Description:
    """Train and save; returns what was saved."""
    if encoder:
        from vlmend.judge.encoder import train_encoder

        return train_encoder(found, encoder, out, seed=seed, epochs=epochs)
    judge = train_linear(found)
    judge.save(out)
    return judge.about
