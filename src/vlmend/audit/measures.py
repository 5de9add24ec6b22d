"""How much a feature says about the label: entropy, log-odds, pointwise mutual information, and what holds up unseen.

Counts are arrays whose row 0 holds answered examples and row 1 those to be refused. Entropies are in bits. The plug-in
share I(X;Y)/H(Y) is 1 for any feature that is unique per example, whatever it means; the held-out share is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmend.metrics.intervals import Z95

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FOLDS = 5
BACKOFF = 1.0  # examples' worth of prior in a held-out prediction
HALF = 0.5  # added to every cell of a 2x2 table


@dataclass(frozen=True)
class Labeled:
    """The labels of some examples, and which of them hang together (`cluster`) and are tested together (`fold`)."""

    refused: Bools
    cluster: Ints
    fold: Ints

    def take(self, rows: Bools) -> Labeled:
        """Some of the examples."""
        return Labeled(self.refused[rows], self.cluster[rows], self.fold[rows])

    @property
    def one_sided(self) -> bool:
        """Whether all have one label: nothing can be said about what tells labels apart."""
        return bool(self.refused.all() or not self.refused.any())


@dataclass(frozen=True)
class Association:
    """Shares of the label's entropy that a feature explains: plug-in, and held out with its 95 % interval."""

    n: int
    values: int
    entropy_share: float
    held_out: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        held = {"value": self.held_out, "low": self.low, "high": self.high}
        return {"n": self.n, "values": self.values, "entropy_share": self.entropy_share, "held_out": held}


@dataclass(frozen=True)
class Odds:
    """One value of a feature: how often it comes with each label, and what that says.

    log_odds is ln of the odds of the value among the refused minus the same among the answered, with 0.5 added to
    every cell (Haldane and Anscombe); z is log_odds by its standard error sqrt(sum of 1/cell). PMI is in bits, None
    where a count is 0. share is I(value or not; label) / H(label); p is that of the G-test, two-sided.
    """

    value: str
    refused: int
    answered: int
    log_odds: float
    low: float
    high: float
    z: float
    pmi_refused: float | None
    pmi_answered: float | None
    share: float
    p: float

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, the value as `word`."""
        told = dict(vars(self))
        return {"word": told.pop("value"), **told}


def entropy(counts: NDArray[Any], axis: int | None = None) -> Any:
    """-sum p log2 p of counts, along an axis or in all; 0 for no counts."""
    numbers = np.asarray(counts, dtype=np.float64)
    total = numbers.sum(axis=axis, keepdims=True)
    p = np.divide(numbers, total, out=np.zeros_like(numbers), where=total > 0)
    return -(p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=axis)


def entropy_share(counts: NDArray[Any]) -> float:
    """I(X;Y) / H(Y) of a (2, values) table; 0 where all have one label."""
    label = float(entropy(counts.sum(axis=1)))
    joint, value = float(entropy(counts)), float(entropy(counts.sum(axis=0)))
    return max(0.0, label + value - joint) / label if label else 0.0


def table(codes: Ints, refused: Bools, values: int) -> Ints:
    """Counts of each label with each value: (2, values)."""
    return np.bincount(refused * values + codes, minlength=2 * values).reshape(2, values)


def associate(codes: Ints, labeled: Labeled) -> Association:
    """How much a feature, given as value numbers from 0, says about the label."""
    values = int(codes.max()) + 1
    counts = np.stack([table(codes[at], labeled.refused[at], values) for at in _folds(labeled)])
    gains = gain(counts)[labeled.fold, labeled.refused.astype(np.int64), codes]
    return _association(gains, labeled, counts)


def associate_best(present: Any, labeled: Labeled) -> Association:
    """The same for the one column of a 0/1 matrix that says most, chosen anew without each fold: searching is paid for.

    The plug-in share is that of the column that says most in all.
    """
    present = present.tocsr()
    counts = np.stack([_present(present[at], labeled.refused[at]) for at in _folds(labeled)])  # (folds, 2, columns)
    sizes = np.stack([np.bincount(labeled.refused[at], minlength=2) for at in _folds(labeled)])
    total, total_size = counts.sum(axis=0), sizes.sum(axis=0)
    best = int(np.argmax(shares(total, total_size)))
    gains = np.zeros(len(labeled.refused))
    for number, at in enumerate(_folds(labeled)):
        chosen = int(np.argmax(shares(total - counts[number], total_size - sizes[number])))
        codes = present[:, [chosen]].toarray().ravel().astype(np.int64)
        two = np.stack([sizes - counts[:, :, chosen], counts[:, :, chosen]], axis=2)
        gains[at] = gain(two)[number, labeled.refused[at].astype(np.int64), codes[at]]
    two = np.stack([sizes - counts[:, :, best], counts[:, :, best]], axis=2)
    return _association(gains, labeled, two)


def shares(counts: NDArray[Any], sizes: NDArray[Any]) -> Floats:
    """I(present or not; label) / H(label) of each column of (2, columns) document counts of `sizes` documents."""
    label = float(entropy(sizes))
    if not label:
        return np.zeros(counts.shape[1])
    cells = np.stack([counts, sizes[:, None] - counts])  # present or not, label, column
    joint = entropy(cells.reshape(4, -1), axis=0)
    return np.maximum(label + entropy(cells.sum(axis=1), axis=0) - joint, 0.0) / label


def gain(counts: NDArray[Any]) -> Floats:
    """Bits by which a value foretells a label in each fold, learned in the others: log2 p(y|x) - log2 p(y).

    From (folds, 2, values) counts. p(y|x) backs off to p(y): (n_xy + a p(y)) / (n_x + a), so that a value that was
    not seen elsewhere says nothing.
    """
    others = counts.sum(axis=0, keepdims=True) - counts
    prior = _prior(counts)[:, :, None]
    learned = (others + BACKOFF * prior) / (others.sum(axis=1, keepdims=True) + BACKOFF)
    return np.log2(learned) - np.log2(prior)


def _prior(counts: NDArray[Any]) -> Floats:
    """How common each label is outside each fold: (folds, 2)."""
    sides = counts.sum(axis=2)
    others = sides.sum(axis=0, keepdims=True) - sides + HALF
    return others / others.sum(axis=1, keepdims=True)


def clustered(values: Floats, cluster: Ints) -> tuple[float, float]:
    """Mean, and its standard error when examples of one cluster are not independent (linearized, clusters as units)."""
    mean = float(values.mean())
    sums = np.bincount(cluster, weights=values - mean)
    used = int(np.count_nonzero(np.bincount(cluster)))
    wider = used / (used - 1) if used > 1 else 1.0
    return mean, float(np.sqrt(wider * np.square(sums).sum()) / len(values))


def odds(values: list[str], counts: NDArray[Any], sizes: NDArray[Any]) -> list[Odds]:
    """What each value says, from (2, values) counts among `sizes` (answered, refused) examples."""
    from scipy.special import chdtrc

    answered, refused = counts.astype(np.float64)
    rest_answered, rest_refused = sizes[:, None] - counts.astype(np.float64)
    cells = np.stack([refused, rest_refused, answered, rest_answered]) + HALF
    log_odds = np.log(cells[0] / cells[1]) - np.log(cells[2] / cells[3])
    error = np.sqrt((1 / cells).sum(axis=0))
    explained = shares(counts, sizes)
    p = chdtrc(1, 2 * np.log(2) * sizes.sum() * explained * float(entropy(sizes)))
    return [
        Odds(
            value, int(refused[i]), int(answered[i]), float(log_odds[i]),
            float(log_odds[i] - Z95 * error[i]), float(log_odds[i] + Z95 * error[i]), float(log_odds[i] / error[i]),
            pmi(int(refused[i]), int(counts[:, i].sum()), int(sizes[1]), int(sizes.sum())),
            pmi(int(answered[i]), int(counts[:, i].sum()), int(sizes[0]), int(sizes.sum())),
            float(explained[i]), float(p[i]),
        )
        for i, value in enumerate(values)
    ]  # fmt: skip


def pmi(both: int, value: int, label: int, n: int) -> float | None:
    """log2 p(value, label) / (p(value) p(label)), in bits; None where they never meet."""
    return float(np.log2(both * n / (value * label))) if both else None


def _present(matrix: Any, refused: Bools) -> Floats:
    """Documents of each label that have each column: (2, columns)."""
    return np.stack([np.asarray(matrix[refused == side].sum(axis=0)).ravel() for side in (False, True)])


def _folds(labeled: Labeled) -> list[Bools]:
    return [labeled.fold == number for number in range(FOLDS)]


def _association(gains: Floats, labeled: Labeled, counts: NDArray[Any]) -> Association:
    """Shares of what foretelling the label without the feature costs on the same folds, so that 1 is the most."""
    whole = counts.sum(axis=0)
    cost = float(-np.log2(_prior(counts))[labeled.fold, labeled.refused.astype(np.int64)].mean())
    mean, error = clustered(gains, labeled.cluster)
    used = int(np.count_nonzero(whole.sum(axis=0)))
    low, high = mean - Z95 * error, min(mean + Z95 * error, cost)
    return Association(len(gains), used, entropy_share(whole), mean / cost, low / cost, high / cost)
