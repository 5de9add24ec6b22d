"""The shift: a token's log-probability is read from the position before it."""

import torch

from vlmend.ops.logprobs import IGNORE, answer_logps
from vlmend.ops.scored import Scored, Totals
from vlmend.types import Role


def test_matches_a_loop_over_single_tokens() -> None:
    torch.manual_seed(0)
    logits, ids = torch.randn(3, 7, 11), torch.randint(0, 11, (3, 7))
    labels = ids.clone()
    labels[0, :4] = IGNORE
    labels[1, :] = IGNORE
    labels[2, 5:] = IGNORE
    found = answer_logps(logits, labels)
    expected = [
        (row, torch.log_softmax(logits[row, t - 1], -1)[ids[row, t]])
        for row in range(3)
        for t in range(1, 7)
        if labels[row, t] != IGNORE
    ]
    assert found.owner.tolist() == [row for row, _ in expected]
    torch.testing.assert_close(found.logps, torch.stack([value for _, value in expected]))


def test_a_label_that_is_certain_has_log_probability_zero() -> None:
    logits = torch.full((1, 3, 5), -1e4)
    logits[0, 0, 2] = logits[0, 1, 4] = 1e4
    found = answer_logps(logits, torch.tensor([[IGNORE, 2, 4]]))
    assert found.logps.tolist() == [0.0, 0.0]


def test_half_precision_logits_are_reduced_in_fp32() -> None:
    logits = torch.randn(2, 5, 1000)
    labels = torch.randint(0, 1000, (2, 5))
    half = answer_logps(logits.bfloat16(), labels).logps
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, answer_logps(logits.bfloat16().float(), labels).logps)


def _scored(logps: list[float], owner: list[int], roles: list[Role], weights: list[float], totals: Totals) -> Scored:
    return Scored(torch.tensor(logps), torch.tensor(owner), tuple(roles), torch.tensor(weights), totals)


def test_shares_of_micro_batches_add_up_to_the_mean_of_the_whole() -> None:
    totals = Totals(
        tokens={Role.SAFETY: 3 * 1.0, Role.UTILITY: 2 * 0.5}, examples={Role.SAFETY: 2 * 1.0, Role.UTILITY: 0.5}
    )
    one = _scored([-1.0, -2.0, -4.0], [0, 0, 1], [Role.SAFETY, Role.SAFETY], [1.0, 1.0], totals)
    two = _scored([-3.0, -5.0], [0, 0], [Role.UTILITY], [0.5], totals)
    mean = one.token_mean(one.logps) + two.token_mean(two.logps)
    torch.testing.assert_close(mean, torch.tensor((-7.0 + 0.5 * -8.0) / 4.0))
    safety = sum(s.token_mean(s.logps) for s in (one.only(Role.SAFETY), two.only(Role.SAFETY)))
    torch.testing.assert_close(safety, torch.tensor(-7.0 / 3.0))
    sums = one.sums(one.logps)
    assert sums.tolist() == [-3.0, -4.0]
    examples = one.example_mean(sums) + two.example_mean(two.sums(two.logps))
    torch.testing.assert_close(examples, torch.tensor((-7.0 + 0.5 * -8.0) / 2.5))


def test_a_role_that_is_absent_contributes_zero_and_no_gradient() -> None:
    totals = Totals(tokens={Role.SAFETY: 1.0}, examples={Role.SAFETY: 1.0})
    logps = torch.tensor([-1.0], requires_grad=True)
    scored = Scored(logps, torch.tensor([0]), (Role.SAFETY,), torch.ones(1), totals)
    absent = scored.only(Role.FORGET)
    share = absent.token_mean(absent.logps)
    share.backward()
    assert share.item() == 0.0
    assert logps.grad is not None
    assert logps.grad.item() == 0.0
