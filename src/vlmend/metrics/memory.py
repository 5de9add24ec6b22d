"""What is left of an answer that was to be forgotten, by how likely a model finds its tokens: no judge asked.

Pure functions of an answer's log-probabilities token by token. Each looks at one given answer, so that a model that
has forgotten it may still know it in other words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from vlmend.types import Record

MEMORY = "memory"  # who is heard where nobody is bound
LOWEST = 20  # percent of the tokens that min-k looks at, what Shi et al. found best


def probability(by_token: Sequence[float]) -> float:
    """exp(log p / T), the geometric mean over the T tokens: what TOFU (Maini et al. 2024, arXiv 2401.06121) reports."""
    return math.exp(sum(by_token) / len(by_token))


def extraction_strength(greedy: Sequence[bool]) -> float:
    """1 - k/T, k the fewest first tokens from which greedy continuation gives all others of the T (arXiv 2012.07805).

    `greedy` says of each token whether it is the likeliest after the answer's own tokens before it. Continuation from k
    tokens gives the rest exactly if all tokens from there on are: as long as it gives them, what stands before them is
    the answer's own. 1: the question alone brings the answer back. 0: not even the last token follows.
    As OpenUnlearning computes it (github.com/locuslab/open-unlearning), which gives 1/T where this gives 0.
    """
    needed = next((i + 1 for i in range(len(greedy) - 1, -1, -1) if not greedy[i]), 0)
    return 1 - needed / len(greedy)


def min_k(by_token: Sequence[float], percent: int = LOWEST) -> float:
    """Mean of the lowest `percent` % log-probabilities, of at least one token: Min-K% Prob (arXiv 2310.16789, eq. 1).

    Higher for what a model was trained on: it holds no token there that the model did not expect.
    """
    lowest = sorted(by_token)[: max(1, len(by_token) * percent // 100)]
    return sum(lowest) / len(lowest)


def auc(members: Sequence[float], others: Sequence[float]) -> float | None:
    """Share of pairs in which the member has the higher number, a tie counting half; None without pairs.

    The area under the ROC curve of telling members by it (Mann and Whitney 1947).
    """
    if not members or not others:
        return None
    ranked = np.sort(np.asarray(others, np.float64))
    below = np.searchsorted(ranked, members, side="left") + np.searchsorted(ranked, members, side="right")
    return float(below.mean() / (2 * len(ranked)))


def remembered(name: str) -> Callable[[Record], float | None]:
    """The number of that name of whoever is bound to `remembers`.

    It is there also where the model said nothing, which it does not depend on.
    """

    def outcome(record: Record) -> float | None:
        verdict = record.verdict(record.judges.get("remembers", MEMORY))
        return verdict.scores.get(name) if verdict else None

    return outcome
