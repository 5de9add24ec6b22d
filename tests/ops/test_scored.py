"""Selecting roles keeps what belongs together; places lie within one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlmend.ops.logprobs import IGNORE, places, predicting
from vlmend.ops.scored import Loss, Scored, Spots, Totals, Vocabulary, given
from vlmend.types import Role

ROLES = (Role.FORGET, Role.RETAIN, Role.FORGET)


@pytest.fixture
def scored() -> Scored:
    owner = torch.tensor([0, 0, 1, 2, 2, 2])
    spots = Spots(torch.tensor([0, 1, 1, 2]), torch.arange(8.0).reshape(4, 2), Vocabulary(torch.arange(4.0)[:, None]))
    totals = Totals(
        tokens={Role.FORGET: 5.0, Role.RETAIN: 1.0},
        examples={Role.FORGET: 2.0, Role.RETAIN: 1.0},
        spots={Role.FORGET: 2.0, Role.RETAIN: 2.0},
    )
    return Scored(torch.arange(1.0, 7.0), owner, ROLES, torch.tensor([1.0, 1.0, 0.5]), totals, spots)


def test_only_keeps_tokens_weights_and_spots_of_its_examples(scored: Scored) -> None:
    forget = scored.only(Role.FORGET)
    assert forget.logps.tolist() == [1.0, 2.0, 4.0, 5.0, 6.0]
    assert forget.owner.tolist() == [0, 0, 1, 1, 1]
    assert forget.weights.tolist() == [1.0, 0.5]
    assert forget.lengths.tolist() == [2.0, 3.0]
    assert forget.answer_logps.tolist() == [3.0, 15.0]
    assert forget.states.tolist() == [[0.0, 1.0], [6.0, 7.0]]
    assert torch.cat(list(forget.vocabulary.chunks(1))).tolist() == [[0.0], [3.0]]
    assert forget.token_mean(forget.logps).item() == pytest.approx((1 + 2 + 0.5 * 15) / 5)
    assert forget.example_mean(forget.answer_logps).item() == pytest.approx((3 + 0.5 * 15) / 2)
    assert forget.spot_mean(torch.tensor([2.0, 4.0])).item() == pytest.approx((2 + 0.5 * 4) / 2)


def test_roles_together_are_pooled(scored: Scored) -> None:
    both = scored.only(Role.FORGET, Role.RETAIN)
    assert both.token_mean(both.logps).item() == pytest.approx((1 + 2 + 3 + 0.5 * 15) / 6)
    assert both.token_mean(both.logps).item() == scored.token_mean(scored.logps).item()


def test_a_role_that_is_absent_is_empty_and_harmless(scored: Scored) -> None:
    none = scored.only(Role.DECOUPLE)
    assert none.roles == ()
    assert none.token_mean(none.logps).item() == none.example_mean(none.answer_logps).item() == 0.0
    assert none.spot_mean(none.states.mean(-1)).item() == 0.0


def test_what_was_not_asked_for_is_not_there(scored: Scored) -> None:
    blind = Scored(scored.logps, scored.owner, scored.roles, scored.weights, scored.totals)
    for look in (lambda: blind.states, lambda: blind.vocabulary, lambda: blind.spot_mean(blind.logps)):
        with pytest.raises(RuntimeError, match="its needs"):
            look()
    with pytest.raises(RuntimeError, match="reference"):
        given(None)


def test_roles_that_were_not_named_cannot_be_read(scored: Scored) -> None:
    """What was not asked for is missing, and a mean over nothing would pass for a loss of 0."""
    named = replace(scored, named=frozenset({Role.FORGET}))
    assert named.only(Role.FORGET).lengths.tolist() == [2.0, 3.0]
    for roles in ([Role.RETAIN], [Role.FORGET, Role.DECOUPLE]):
        with pytest.raises(RuntimeError, match=f"role {roles[-1]}, which its needs do not name"):
            named.only(*roles)


def test_log_probabilities_of_roles_that_were_not_told_cannot_be_read(scored: Scored) -> None:
    told = replace(scored, told=frozenset({Role.RETAIN}))
    assert told.only(Role.RETAIN).answer_logps.tolist() == [3.0]
    forget = told.only(Role.FORGET)
    assert forget.states.tolist() == [[0.0, 1.0], [6.0, 7.0]]  # which were looked at all the same
    reads: list[Callable[[], Tensor]] = [
        lambda: forget.answer_logps,
        lambda: forget.lengths,
        lambda: forget.sums(forget.logps),
        lambda: forget.token_mean(forget.logps),
        lambda: told.token_mean(told.logps),
    ]
    for read in reads:
        with pytest.raises(RuntimeError, match="do not name in tokens"):
            read()


def test_positions_of_roles_that_were_not_looked_at_cannot_be_read(scored: Scored) -> None:
    assert scored.spots is not None
    seen = replace(scored, spots=replace(scored.spots, roles=frozenset({Role.FORGET})))
    assert seen.only(Role.FORGET).states.tolist() == [[0.0, 1.0], [6.0, 7.0]]
    blind = seen.only(Role.RETAIN)
    reads: list[Callable[[], object]] = [
        lambda: blind.states,
        lambda: blind.vocabulary,
        lambda: blind.spot_mean(torch.zeros(2)),
        lambda: seen.only(Role.FORGET, Role.RETAIN).states,
    ]
    for read in reads:
        with pytest.raises(RuntimeError, match="do not name in look"):
            read()


def test_a_loss_is_the_sum_of_its_parts() -> None:
    part = torch.tensor(2.0, requires_grad=True)
    loss = Loss.of({"a": part, "b": 3 * part})
    assert loss.total.item() == 8.0
    assert loss.total.requires_grad
    assert not any(value.requires_grad for value in loss.parts.values())


def test_places_lie_within_one_another() -> None:
    ids = torch.tensor([[1, 9, 9, 5, 6, 7, 2, 0]])  # first, two of a picture, prompt, prompt, answer, end, padding
    labels = torch.tensor([[IGNORE] * 5 + [7, 2, IGNORE]])
    real, picture = ids != 0, ids == 9
    found = {
        which: places(which, labels, real.long(), picture)[0].nonzero().flatten().tolist()
        for which in ("answer", "text", "no_bos", "no_pad", "all")
    }
    assert found == {
        "answer": [5, 6],
        "text": [3, 4, 5, 6],
        "no_bos": [1, 2, 3, 4, 5, 6],
        "no_pad": [0, 1, 2, 3, 4, 5, 6],
        "all": [0, 1, 2, 3, 4, 5, 6, 7],
    }
    assert predicting(labels)[0].nonzero().flatten().tolist() == [4, 5]


def test_with_padding_on_the_left_the_first_token_is_still_the_first() -> None:
    real = torch.tensor([[0, 0, 1, 1, 1]])
    labels = torch.full((1, 5), IGNORE)
    nowhere = torch.zeros(1, 5, dtype=torch.bool)
    assert places("no_bos", labels, real, nowhere)[0].tolist() == [False, False, False, True, True]
