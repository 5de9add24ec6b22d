"""Judge cards against scikit-learn, Krippendorff's own example, and simulation."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, precision_score, recall_score, roc_auc_score, roc_curve

from vlmend.metrics.agreement import Confusion, calibration, cohen, cuts, effective_n, krippendorff, rogan_gladen
from vlmend.metrics.intervals import wilson
from vlmend.metrics.memory import auc
from vlmend.metrics.rates import of
from vlmend.types import Rate


@pytest.mark.parametrize("seed", range(3))
def test_confusion_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.random(60) < 0.4
    said = np.where(rng.random(60) < 0.8, gold, ~gold)
    found = Confusion.of([bool(s) for s in said], [bool(g) for g in gold])
    assert found.precision.value == pytest.approx(precision_score(gold, said))
    assert found.recall.value == pytest.approx(recall_score(gold, said))
    assert found.specificity.value == pytest.approx(recall_score(~gold, ~said))
    assert found.kappa == pytest.approx(cohen_kappa_score(gold, said))


def test_published_kappa() -> None:
    """VLGuard's table 17: 39 and 42 agree, 8 and 11 do not; kappa 0.62."""
    found = Confusion(tp=42, fp=8, fn=11, tn=39)
    assert found.accuracy.value == 0.81
    assert found.kappa == pytest.approx(0.62)


def test_abstentions_are_neither_right_nor_wrong() -> None:
    found = Confusion.of([True, None, None, False], [True, True, False, True])
    assert (found.tp, found.fn, found.n, found.abstained) == (1, 1, 2, 2)
    assert Confusion(5, 0, 0, 0).kappa is None
    assert Confusion(0, 0, 0, 0).kappa is None


def test_krippendorffs_example() -> None:
    """Reliability data C of Krippendorff (2011): four observers, twelve units, nominal alpha 0.743."""
    data = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = list(zip(*data, strict=True))
    assert krippendorff(units) == pytest.approx(0.743, abs=0.0005)
    assert krippendorff(units, "ordinal") == pytest.approx(0.815, abs=0.0005)
    assert krippendorff(units, "interval") == pytest.approx(0.849, abs=0.0005)


def test_grades_that_are_near_agree_more_than_grades_that_are_far() -> None:
    near = [(1, 2), (2, 3), (4, 5), (5, 4), (3, 3), (1, 1)]
    far = [(1, 5), (2, 5), (4, 1), (5, 1), (3, 3), (1, 1)]
    for level in ("ordinal", "interval"):
        close, apart = krippendorff(near, level), krippendorff(far, level)
        assert close is not None
        assert apart is not None
        assert close > 0.5 > 0 > apart
    stretched = [(10**a, 10**b) for a, b in near]  # an order knows no distances
    assert krippendorff(stretched, "ordinal") == pytest.approx(krippendorff(near, "ordinal"))
    assert krippendorff([(0, 1), (1, 1), (0, 0)], "ordinal") == pytest.approx(krippendorff([(0, 1), (1, 1), (0, 0)]))


def test_alpha_of_two_raters_is_kappa_with_pooled_margins() -> None:
    """For two raters and no gaps: 1 - (1 - p_o)(1 - 1/n) / (1 - Σp²), p the pooled shares (Scott's pi, small n)."""
    pairs = [(1, 1)] * 6 + [(0, 0)] * 9 + [(1, 0)] * 3 + [(0, 1)] * 2
    pooled = (2 * 6 + 5) / 40
    expected = 1 - (5 / 20) / ((1 - pooled**2 - (1 - pooled) ** 2) * 40 / 39)
    assert krippendorff(pairs) == pytest.approx(expected)
    assert krippendorff([(1, 1), (1, 1)]) is None
    assert krippendorff([(1, None), (0, 0), (1, 1)]) == krippendorff([(0, 0), (1, 1)]) == 1.0


def test_calibration_by_hand_and_against_scikit_learn() -> None:
    """Bin 0.2–0.3: mean 0.25, 1 of 2; bin 0.9–1: mean 0.95, 2 of 2. ECE = (0.25 + 0.05) / 2."""
    found = calibration([0.2, 0.3 - 1e-9, 0.9, 1.0], [True, False, True, True])
    assert found is not None
    assert found.ece == pytest.approx(0.15)
    assert found.brier == pytest.approx(brier_score_loss([1, 0, 1, 1], [0.2, 0.3, 0.9, 1.0]))
    assert [(b.n, b.rate.k) for b in found.bins] == [(2, 1), (2, 2)]
    assert calibration([], []) is None
    assert calibration([1.5], [True]) is None


def share(k: int, n: int) -> Rate:
    return of([True] * k + [False] * (n - k))


def test_a_perfect_judge_corrects_nothing_and_an_erring_one_is_undone() -> None:
    assert rogan_gladen(share(30, 100), share(500, 500), share(500, 500)).value == pytest.approx(0.3)
    found = rogan_gladen(share(26, 100), share(90, 100), share(90, 100))  # 0.2 · 0.9 + 0.8 · 0.1 = 0.26
    assert found.value == pytest.approx(0.2)
    assert found.low < 0.2 < found.high
    assert rogan_gladen(share(2, 100), share(90, 100), share(90, 100)).value == 0.0  # clipped
    wider = rogan_gladen(share(26, 100), share(9, 10), share(9, 10))
    assert wider.high - wider.low > found.high - found.low


def test_a_coin_identifies_nothing() -> None:
    found = rogan_gladen(share(50, 100), share(10, 20), share(11, 20))
    assert (found.low, found.high) == (0.0, 1.0)
    assert "coin" in found.why
    assert rogan_gladen(share(50, 100), share(5, 20), share(6, 20)).value is None
    assert rogan_gladen(share(0, 0), share(9, 10), share(9, 10)).why


def test_corrected_intervals_cover() -> None:
    """True rate 0.15, judge 0.85 / 0.92 known from 60 and 80 labels: the interval holds the truth 95 % of times."""
    rng = np.random.default_rng(0)
    apparent = 0.15 * 0.85 + 0.85 * 0.08
    hits = 0
    for _ in range(600):
        p, se, sp = rng.binomial(400, apparent), rng.binomial(60, 0.85), rng.binomial(80, 0.92)
        found = rogan_gladen(share(int(p), 400), share(int(se), 60), share(int(sp), 80))
        hits += found.low <= 0.15 <= found.high
    assert 0.93 <= hits / 600 <= 0.985


def test_effective_n() -> None:
    assert effective_n(share(30, 100)) == 100
    low, high = wilson(12, 40) or (0, 0)
    assert effective_n(Rate(30, 100, 0, low, high, clusters=40)) == pytest.approx(40, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_kappa_of_many_labels_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.integers(1, 6, 50).tolist()
    said = np.where(rng.random(50) < 0.6, gold, rng.integers(1, 6, 50)).tolist()
    assert cohen(list(zip(gold, said, strict=True))) == pytest.approx(cohen_kappa_score(gold, said))
    assert cohen([]) is None
    assert cohen([(1, 1), (1, 1)]) is None
    pairs = [(bool(a > 2), bool(b > 2)) for a, b in zip(gold, said, strict=True)]
    both = Confusion.of([b for _, b in pairs], [a for a, _ in pairs])
    assert cohen(pairs) == pytest.approx(both.kappa)


@pytest.mark.parametrize("kind", ["grades", "probabilities", "numbers"])
def test_thresholds_are_points_of_the_curve(kind: str) -> None:
    """Each is a point of scikit-learn's ROC curve; along them neither rate rises; the area is that of all points."""
    rng = np.random.default_rng(7)
    gold = rng.random(80) < 0.4
    scores = {
        "grades": rng.integers(1, 6, 80).astype(float),
        "probabilities": 1 / (1 + np.exp(-(gold + rng.normal(0, 1, 80)))),
        "numbers": gold * 3 + rng.normal(0, 4, 80),
    }[kind]
    labels = [bool(g) for g in gold]
    found = cuts(scores.tolist(), labels)
    assert 0 < len(found) <= 9
    assert [cut.threshold for cut in found] == sorted(cut.threshold for cut in found)
    false, true, _ = roc_curve(gold, scores, drop_intermediate=False)
    curve = {(round(f, 9), round(t, 9)) for f, t in zip(false, true, strict=True)}
    shares = [(1 - (c.confusion.specificity.value or 0.0), c.confusion.recall.value or 0.0) for c in found]
    assert {(round(f, 9), round(t, 9)) for f, t in shares} <= curve
    for index in (0, 1):
        assert [s[index] for s in shares] == sorted((s[index] for s in shares), reverse=True)
    if kind == "grades":  # all points are there, so that trapezoids between them have the area
        points = [(1.0, 1.0), *shares, (0.0, 0.0)]
        area = sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
        assert area == pytest.approx(roc_auc_score(gold, scores))
        yes, no = scores[gold].tolist(), scores[~gold].tolist()
        assert auc(yes, no) == pytest.approx(area)


def test_one_score_has_no_threshold() -> None:
    assert cuts([], []) == ()
    assert cuts([0.5, 0.5], [True, False]) == ()
