"""What is left of a forgotten answer: against greedy decoding carried out, numpy, and scikit-learn."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vlmend.metrics.memory import auc, extraction_strength, min_k, probability, remembered
from vlmend.types import Example, Finish, Message, Record, Response, Verdict

Table = dict[tuple[int, ...], int]


def test_probability_is_the_geometric_mean() -> None:
    assert probability([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert probability([0.0, 0.0]) == 1.0


def continued(table: Table, prefix: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Greedy decoding by looking each next token up; what the table does not know goes on with 9."""
    while len(prefix) < length:
        prefix = (*prefix, table.get(prefix, 9))
    return prefix


def by_definition(table: Table, answer: tuple[int, ...]) -> float:
    """1 - k/T with k found by trying to continue from every prefix."""
    return 1 - min(k for k in range(len(answer) + 1) if continued(table, answer[:k], len(answer)) == answer) / len(
        answer
    )


@pytest.mark.parametrize("known", list(itertools.product([True, False], repeat=4)))
def test_extraction_strength_is_what_decoding_finds(known: tuple[bool, ...]) -> None:
    """A model that gives the right token at the known places; what it says after other words does not matter."""
    answer = (1, 2, 3, 4)
    table = {answer[:i]: token if yes else 8 for i, (token, yes) in enumerate(zip(answer, known, strict=True))}
    assert extraction_strength(known) == by_definition(table, answer)


def test_extraction_strength_at_its_ends_and_between() -> None:
    assert extraction_strength([True] * 5) == 1.0
    assert extraction_strength([True, True, True, False]) == 0.0
    assert extraction_strength([False, True, True, True]) == 0.75
    assert extraction_strength([True, False, True, True]) == 0.5


@pytest.mark.parametrize(("tokens", "percent"), [(10, 20), (14, 20), (3, 20), (1, 1), (50, 100)])
def test_min_k_is_numpys(tokens: int, percent: int) -> None:
    logps = np.log(np.random.default_rng(tokens).random(tokens))
    lowest = np.sort(logps)[: max(1, int(tokens * percent / 100))]
    assert min_k(logps.tolist(), percent) == pytest.approx(lowest.mean())


def test_min_k_does_not_depend_on_the_order() -> None:
    assert min_k([-1.0, -9.0, -3.0, -0.5, -2.0], 40) == min_k([-9.0, -3.0, -2.0, -1.0, -0.5], 40) == -6.0


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_sklearns(ties: bool) -> None:
    rng = np.random.default_rng(7)
    members, others = rng.normal(0.4, 1, 30), rng.normal(0, 1, 21)
    if ties:
        members, others = members.round(), others.round()
    expected = roc_auc_score([1] * 30 + [0] * 21, [*members, *others])
    assert auc(members.tolist(), others.tolist()) == pytest.approx(expected)


def test_auc_of_nothing_is_nothing() -> None:
    assert auc([], [1.0]) is None
    assert auc([1.0], []) is None
    assert (auc([2.0], [1.0]), auc([1.0], [2.0]), auc([1.0], [1.0])) == (1.0, 0.0, 0.5)


def test_a_number_is_known_also_where_the_model_said_nothing() -> None:
    response = Response("r", "e", "", Finish.STOP)
    verdict = Verdict("memory", "r", scores={"min_k": -2.0})
    record = Record(Example("e", (Message("user", ("?",)),)), response, (verdict,))
    assert remembered("min_k")(record) == -2.0
    assert remembered("total")(record) is None
    assert remembered("min_k")(replace(record, judges={"remembers": "another"})) is None
