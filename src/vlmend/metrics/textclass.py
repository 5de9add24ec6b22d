"""A small text classifier that needs neither torch nor pickle: TF-IDF of words and pairs of words, logistic regression.

A trained judge is a folder. `judge.json` says what it is (`Description`); for kind `tfidf`, `weights.npz` has the
numbers and `vocabulary.json` the words; for kind `encoder`, the folder is also one of transformers' models.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlmend.errors import DataError, nearest

VERSION = 1
OPENING = 6  # the first words are features of their own: refusals decide themselves there
Floats = NDArray[np.float64]
Input = Literal["answer", "question+answer"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[?!]")
_APOSTROPHES = str.maketrans({c: "'" for c in "’‘ʼ‛`´′＇"})


@dataclass(frozen=True)
class Description:
    """What `judge.json` says: which question the judge answers, from which text, and how sure its numbers may be.

    `target` is `refused`, `harmful`, `correct` (labels no and yes, in this order) or `label` (any labels). Logits are
    divided by `temperature` before the softmax. `data` hashes the training rows, `held_out` is what was measured on
    rows that training did not see.
    """

    kind: Literal["tfidf", "encoder"]
    target: Literal["refused", "harmful", "correct", "label"]
    labels: tuple[str, ...]
    input: Input
    temperature: float
    data: str
    held_out: dict[str, Any]
    version: int = VERSION


@dataclass(frozen=True)
class Linear:
    """A trained TF-IDF judge."""

    about: Description
    vocabulary: dict[str, int]
    idf: Floats
    weights: Floats  # features × labels
    bias: Floats  # labels

    def probabilities(self, asked: Sequence[tuple[str, str]]) -> Floats:
        """Calibrated probabilities of `about.labels` for (question, answer) pairs, one row each."""
        return softmax(self.logits(asked) / self.about.temperature)

    def logits(self, asked: Sequence[tuple[str, str]]) -> Floats:
        """What the softmax is taken of, before calibration."""
        return np.array([self._logits(features(q, a, self.about.input)) for q, a in asked]).reshape(-1, len(self.bias))

    def _logits(self, words: Sequence[str]) -> Floats:
        counted = Counter(place for word in words if (place := self.vocabulary.get(word)) is not None)
        if not counted:
            return self.bias
        places = np.fromiter(counted.keys(), np.int64, len(counted))
        tf = 1 + np.log(np.fromiter(counted.values(), np.float64, len(counted)))
        weighed = tf * self.idf[places]
        return weighed @ self.weights[places] / np.linalg.norm(weighed) + self.bias

    def save(self, folder: Path) -> None:
        """Write `judge.json`, `vocabulary.json` and `weights.npz`."""
        write_description(folder, self.about)
        words = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        (folder / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        np.savez(folder / "weights.npz", idf=self.idf, weights=self.weights, bias=self.bias)


def load(folder: Path) -> Linear:
    """A trained TF-IDF judge. Raises DataError when the folder is none or does not fit together."""
    about = describe(folder)
    if about.kind != "tfidf":
        raise DataError(f"{folder} holds a judge of kind {about.kind}, not tfidf; it loads as a transformers model")
    try:
        words: list[str] = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        with np.load(folder / "weights.npz", allow_pickle=False) as stored:
            idf, weights, bias = (np.asarray(stored[name], np.float64) for name in ("idf", "weights", "bias"))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds a damaged judge: {error}") from error
    shapes = idf.shape, weights.shape, bias.shape
    if shapes != ((len(words),), (len(words), len(about.labels)), (len(about.labels),)):
        raise DataError(f"{folder}: {len(words)} words and {len(about.labels)} labels do not fit weights of {shapes}")
    return Linear(about, {word: place for place, word in enumerate(words)}, idf, weights, bias)


def likely(judge: Linear, answer: str) -> float | None:
    """How likely a judge with the labels no and yes says yes; None where it knows less than half of the answer's words.

    A text without a known word would get what most answers got in training.
    """
    words = _words(answer)
    if sum(word in judge.vocabulary for word in words) * 2 < max(len(words), 1):
        return None
    return float(judge.probabilities([("", answer)])[0, 1])


def describe(folder: Path) -> Description:
    """What `judge.json` says. Raises DataError when it is missing, newer than this code, or not a judge's."""
    file = folder / "judge.json"
    try:
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        settings: dict[str, Any] = {**row, "labels": tuple(row["labels"])}
        about = Description(**settings)
    except OSError as error:
        raise DataError(f"{folder} holds no trained judge: {file} cannot be read ({error.strerror})") from error
    except (TypeError, KeyError, ValueError) as error:
        known = {field.name for field in fields(Description)}
        raise DataError(f"{file} is not a judge's: {error}; it has the keys {', '.join(sorted(known))}") from error
    if about.version != VERSION:
        raise DataError(f"{file} has version {about.version}, this vlmend reads {VERSION}")
    if about.kind not in ("tfidf", "encoder"):
        raise DataError(f"{file}: no kind of judge {about.kind!r}.{nearest(about.kind, ('tfidf', 'encoder'))}")
    return about


def write_description(folder: Path, about: Description) -> None:
    """Write `judge.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(about), ensure_ascii=False, indent=1)
    (folder / "judge.json").write_text(text + "\n", encoding="utf-8")


def recalibrated(judge: Linear, temperature: float, held_out: dict[str, Any]) -> Linear:
    """The same judge with another temperature and what was measured with it."""
    return replace(judge, about=replace(judge.about, temperature=temperature, held_out=held_out))


def text_of(question: str, answer: str, wanted: Input) -> str:
    """What an encoder reads: the answer, or question and answer on lines of their own."""
    return answer if wanted == "answer" else f"{question}\n{answer}"


def features(question: str, answer: str, wanted: Input = "answer") -> list[str]:
    """Words, pairs of neighbors, and the first words marked as such; those of the question are kept apart."""
    words = _words(answer)
    opening = [f"^{word}" for word in words[:OPENING]]
    found = [*words, *map(" ".join, pairwise(words)), *opening]
    return found if wanted == "answer" else [*found, *(f"q:{word}" for word in _words(question))]


def softmax(logits: Floats) -> Floats:
    """Rows of probabilities."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.translate(_APOSTROPHES).casefold())
