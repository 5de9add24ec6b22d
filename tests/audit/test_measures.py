"""Entropies against sklearn, log-odds by hand and against statsmodels, and what held-out shares do at their limits."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import chi2_contingency
from sklearn.metrics import mutual_info_score
from statsmodels.stats.contingency_tables import Table2x2

from tests.audit.made import labeled
from vlmend.audit.measures import associate, associate_best, clustered, entropy, entropy_share, odds, pmi, shares, table


def drawn(n: int = 4000, values: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(values, size=n)
    return codes, (rng.random(n) < 0.2 + 0.6 * codes / values).astype(int)


def test_entropy_share_is_mutual_information_by_entropy() -> None:
    codes, refused = drawn()
    label = mutual_info_score(refused, refused)
    counts = table(codes, refused.astype(bool), 7)
    assert entropy_share(counts) == pytest.approx(mutual_info_score(codes, refused) / label)
    assert entropy(counts.sum(axis=1)) == pytest.approx(label / math.log(2))


def test_a_value_that_is_the_label_explains_all_and_a_constant_nothing() -> None:
    _, refused = drawn(400)
    about = labeled(refused)
    whole = associate(refused.astype(np.int64), about)
    assert whole.entropy_share == pytest.approx(1)
    assert 0.98 < whole.held_out <= 1
    nothing = associate(np.zeros(400, dtype=np.int64), about)
    assert nothing.entropy_share == 0
    assert nothing.held_out == pytest.approx(0, abs=1e-3)


def test_a_unique_value_explains_all_where_it_was_counted_and_nothing_elsewhere() -> None:
    _, refused = drawn(400)
    found = associate(np.arange(400), labeled(refused))
    assert found.entropy_share == pytest.approx(1)
    assert found.held_out == pytest.approx(0)
    assert found.values == 400


def test_noise_is_within_its_interval_of_nothing_and_plug_in_is_not() -> None:
    rng = np.random.default_rng(1)
    found = associate(rng.integers(200, size=2000), labeled(rng.integers(2, size=2000)))
    assert found.entropy_share > 0.05
    assert found.low <= found.held_out <= found.high
    assert found.held_out < 0.01


def test_the_held_out_share_tends_to_the_true_one() -> None:
    codes, refused = drawn(60_000)
    found = associate(codes, labeled(refused))
    p = 0.2 + 0.6 * np.arange(7) / 7
    bits = lambda q: -(q * np.log2(q) + (1 - q) * np.log2(1 - q))  # noqa: E731
    truth = 1 - bits(p).mean() / bits(p.mean())
    assert found.low < truth < found.high
    assert found.entropy_share == pytest.approx(truth, abs=0.01)


def test_the_order_of_examples_and_the_names_of_values_do_not_matter() -> None:
    codes, refused = drawn(500)
    mix = np.random.default_rng(2).permutation(500)
    about = labeled(refused)
    one = associate(codes, about)
    other = associate((codes + 3)[mix] % 7, labeled(refused[mix], mix.tolist()))
    assert other.entropy_share == pytest.approx(one.entropy_share)
    assert other.held_out == pytest.approx(one.held_out)


def test_clusters_that_say_the_same_widen_the_interval() -> None:
    values = np.random.default_rng(3).normal(size=100)
    _, alone = clustered(values, np.arange(100))
    mean, tenfold = clustered(np.repeat(values, 10), np.repeat(np.arange(100), 10))
    assert alone == pytest.approx(values.std(ddof=1) / 10)
    assert tenfold == pytest.approx(alone)
    assert mean == pytest.approx(values.mean())


def test_odds_are_those_of_a_two_by_two_table_with_a_half_added() -> None:
    word = odds(["share", "rest"], np.array([[0, 977], [195, 1805]]), np.array([977, 2000]))[0]
    by_hand = math.log(195.5 / 1805.5) - math.log(0.5 / 977.5)
    assert (word.refused, word.answered) == (195, 0)
    assert word.log_odds == pytest.approx(by_hand)
    oracle = Table2x2([[195.5, 1805.5], [0.5, 977.5]])
    assert (word.low, word.high) == pytest.approx(oracle.log_oddsratio_confint())
    assert word.z == pytest.approx(by_hand / oracle.log_oddsratio_se)
    assert word.pmi_refused == pytest.approx(math.log2(2977 / 2000))
    assert word.pmi_answered is None


def test_p_is_that_of_the_g_test() -> None:
    word = odds(["a", "b"], np.array([[30, 70], [55, 45]]), np.array([100, 100]))[0]
    oracle = chi2_contingency([[30, 70], [55, 45]], correction=False, lambda_="log-likelihood")
    assert word.p == pytest.approx(oracle.pvalue)


def test_pmi_is_nothing_where_value_and_label_are_independent() -> None:
    assert pmi(10, 20, 50, 100) == pytest.approx(0)


def test_shares_of_columns_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(4)
    refused = rng.random(300) < 0.4
    matrix = (rng.random((300, 5)) < 0.3).astype(np.int64)
    counts = np.stack([matrix[~refused].sum(axis=0), matrix[refused].sum(axis=0)])
    found = shares(counts, np.bincount(refused, minlength=2))
    assert found == pytest.approx([entropy_share(table(matrix[:, i], refused, 2)) for i in range(5)])


def test_the_best_of_many_noisy_columns_is_paid_for() -> None:
    rng = np.random.default_rng(5)
    refused = rng.integers(2, size=300)
    about = labeled(refused)
    noise = rng.integers(2, size=(300, 500))
    found = associate_best(csr_matrix(noise), about)
    assert found.entropy_share > 0.02
    assert found.low < 0
    planted = noise.copy()
    planted[:, 7] = refused
    assert associate_best(csr_matrix(planted), about).held_out > 0.95


def test_the_best_of_one_column_is_that_column() -> None:
    codes, refused = drawn(500, values=2)
    about = labeled(refused)
    best, plain = associate_best(csr_matrix(codes[:, None]), about), associate(codes, about)
    assert best.entropy_share == pytest.approx(plain.entropy_share)
    assert best.held_out == pytest.approx(plain.held_out)
