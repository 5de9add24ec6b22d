import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.audit.made import example
from vlmend.audit.baselines import auc, baselines, confusion
from vlmend.audit.contrasts import contrasts, same_picture, unsafe_picture
from vlmend.audit.rows import Rows


def pictured(n: int = 60) -> Rows:
    """Every safe picture has a question of each kind; every other picture is unsafe, and asked as harmless ones are."""
    made = []
    for i in range(n):
        made.append(example(f"s{i}", f"What is thing {i % 7}?", False, cluster=f"p{i}", subset="safe_safe"))
        made.append(example(f"h{i}", f"Share thing {i % 7}.", True, cluster=f"p{i}", subset="safe_unsafe"))
        made.append(example(f"u{i}", f"What is thing {i % 5}?", True, cluster=f"q{i}", subset="unsafe"))
    return Rows("made", tuple(made))


def by_name(rows: Rows, test: Rows | None = None) -> dict[str, object]:
    return {rule.name: rule for rule in baselines(rows, test, (None, None))}


def test_contrasts_hold_what_they_say() -> None:
    made = pictured()
    same, unsafe = contrasts(made, 5)
    assert (same.refused, same.answered) == (60, 60)
    assert (unsafe.refused, unsafe.answered) == (60, 60)
    assert same.first_word is not None
    assert same.first_word.entropy_share == pytest.approx(1)
    assert unsafe.first_word is not None
    assert unsafe.first_word.entropy_share == pytest.approx(0)
    assert same_picture(made).sum() == unsafe_picture(made).sum() == 120


def test_a_contrast_without_one_side_has_no_words() -> None:
    made = pictured().take(~pictured().refused)
    assert all(contrast.first_word is None and not contrast.words for contrast in contrasts(made, 5))


def test_the_first_word_rule_by_hand() -> None:
    made = pictured()
    rule = by_name(made)["first_word"]
    rates = {name: (rate.k, rate.n) for name, rate in rule.test.items()}  # type: ignore[attr-defined]
    assert rates["asr_safe_unsafe"] == (0, 60)  # 'share' is always refused
    folds = made.labeled.fold
    for what, harm in (("over_refusal", False), ("asr_unsafe", True)):
        answered = 0
        for number in range(5):  # 'what' is answered in a fold where most others of it are
            others = (folds != number) & (np.array(made.first_words()) == "what")
            here = (folds == number) & (made.refused == harm) & (np.array(made.first_words()) == "what")
            answered += int(here.sum()) * int((~made.refused[others]).sum() > made.refused[others].sum())
        assert rates[what][0] == (answered if harm else rates[what][1] - answered)


def test_a_test_set_is_scored_by_what_train_taught() -> None:
    train = Rows(
        "train", tuple(example(f"t{i}", ("Share it." if i % 2 else "What is it?"), i % 2 == 1) for i in range(40))
    )
    swapped = Rows(
        "test", tuple(example(f"x{i}", ("What is it?" if i % 2 else "Share it."), i % 2 == 1) for i in range(40))
    )
    for rule in by_name(train, swapped).values():
        assert (rule.fitted_on, rule.tested_on) == ("train", "test")  # type: ignore[attr-defined]
        assert rule.test["asr"].k == rule.test["asr"].n == 20  # type: ignore[attr-defined]
        assert rule.test["over_refusal"].value == 1  # type: ignore[attr-defined]
        assert rule.auc["all"] == 0  # type: ignore[attr-defined]


def test_an_unknown_first_word_is_refused() -> None:
    train = Rows("train", tuple(example(f"t{i}", ("Share." if i % 2 else "What?"), i % 2 == 1) for i in range(10)))
    new = Rows("test", (example("a", "Zebra?", False), example("b", "Zebra?", True)))
    rule = by_name(train, new)["first_word"]
    assert (rule.test["asr"].k, rule.test["over_refusal"].k) == (0, 1)  # type: ignore[attr-defined]


def test_nothing_that_was_not_scored_counts_as_safe() -> None:
    made = pictured(2)
    rates = confusion(made, np.full(len(made), np.nan))
    assert all(rate.n == 0 and rate.unscored and rate.value is None for rate in rates.values())


def test_auc_is_sklearns_with_ties() -> None:
    rng = np.random.default_rng(0)
    refused, scores = rng.random(500) < 0.3, rng.integers(6, size=500).astype(float)
    assert auc(refused, scores) == pytest.approx(roc_auc_score(refused, scores))
    assert auc(np.ones(3, dtype=bool), np.zeros(3)) is None
