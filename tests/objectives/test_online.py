"""What holds of objectives that learn from the model's own answers, on a model that is nothing but its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.objectives.conftest import MakeToy, Toy, moved
from vlmend.config import MethodConfig
from vlmend.errors import ConfigError
from vlmend.objectives import OnPolicy, build
from vlmend.ops.policy import Drawn
from vlmend.ops.scored import Sampled, Scored
from vlmend.registry import objectives
from vlmend.types import Role

ONLINE = [name for name in objectives.names() if issubclass(objectives.find(name), OnPolicy)]
GROUP = torch.tensor([0, 0, 1, 1])
SCORES = torch.tensor([1.0, 0.0, 0.3, 0.9], dtype=torch.float64)


def method(name: str, **settings: Any) -> OnPolicy:
    made = build(MethodConfig.model_validate({"name": name, "samples": 2, **settings}))
    assert isinstance(made, OnPolicy)
    return made


@pytest.fixture
def toy(make_toy: MakeToy) -> Toy:
    return make_toy(Role.SAFETY, Role.UTILITY, Role.SAFETY, Role.RETAIN)


def drawn(objective: OnPolicy, toy: Toy, scores: Tensor = SCORES, penalty: Tensor | None = None) -> Drawn:
    owner = toy.score().owner
    values = torch.zeros(len(owner), objective.needs.heads, dtype=torch.float64) if objective.needs.heads else None
    nothing = torch.zeros(len(owner), dtype=torch.float64)
    return Drawn(scores, GROUP, owner, nothing if penalty is None else penalty, values=values)


def known(objective: OnPolicy, toy: Toy, before: Toy | None = None, scores: Tensor = SCORES) -> Sampled:
    """What is known of all of the toy's tokens, sampled by `before`."""
    given = drawn(objective, toy, scores)
    advantages, returns = objective.credited(given, 0.0)
    old = None if before is None else before.score().logps.detach()
    values = None if given.values is None else given.values.float()
    return Sampled(
        advantages.float(), old, moved(toy, seed=5).score().logps.detach(), values,
        None if returns is None else returns.float(),
    )  # fmt: skip


def loss(
    objective: OnPolicy, toy: Toy, sampled: Sampled, rows: Sequence[int] | None = None, values: Tensor | None = None
) -> Any:
    look = objective.needs.look
    policy, whole = toy.score(look, rows), toy.score()
    kept = list(range(len(toy.roles))) if rows is None else list(rows)
    index = torch.cat([(whole.owner == row).nonzero()[:, 0] for row in kept])
    if objective.needs.heads:
        values = torch.zeros(len(whole.logps), objective.needs.heads) if values is None else values
        policy = replace(policy, token_values=values[index])
    reference = moved(toy, seed=5).score(look, rows) if objective.needs.reference and look else None
    return objective(replace(policy, sampled=sampled.at(index)), reference)


def gradient(objective: OnPolicy, toy: Toy, sampled: Sampled, rows: Sequence[int] | None = None) -> Tensor:
    (found,) = torch.autograd.grad(loss(objective, toy, sampled, rows).total, toy.logits)
    return found


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ONLINE),
    ("grpo", {"loss_mean": "token", "std": False}),
    ("grpo", {"loss_mean": "constant", "kl": 0.1}),
    ("rloo", {"kl": 0.1, "kl_kind": "full"}),
    ("ppo", {"kl": 0.1, "kl_kind": "k2", "kl_in": "loss", "entropy": 0.05}),
    ("ppo", {"loss_mean": "constant", "stretch": True}),
    ("reinforce_pp", {"baseline": True, "entropy": 0.1}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_a_batch_in_several_passes_is_the_batch(name: str, settings: dict[str, Any], toy: Toy) -> None:
    """So neither what an answer stands beside nor how long that is changes anything."""
    objective = method(name, **settings)
    sampled = known(objective, toy, moved(toy, 0.1))
    whole = loss(objective, toy, sampled)
    parts = [loss(objective, toy, sampled, rows) for rows in ([0], [1, 2, 3])]
    assert sum(p.total.item() for p in parts) == pytest.approx(whole.total.item(), abs=1e-5)
    sums = sum(gradient(objective, toy, sampled, rows) for rows in ([3], [2, 0], [1]))
    assert torch.allclose(torch.as_tensor(sums), gradient(objective, toy, sampled), atol=1e-6)
    assert float(sum(whole.parts.values())) == pytest.approx(whole.total.item(), abs=1e-5)


@pytest.mark.parametrize("name", ONLINE)
def test_on_the_sampling_policy_the_ratio_is_one_and_the_gradient_that_of_reinforce(name: str, toy: Toy) -> None:
    objective = method(name, kl=0.0)
    sampled = known(objective, toy)
    assert torch.equal(replace(toy.score(), sampled=sampled).ratio, torch.ones(len(sampled.advantages)))
    policy = toy.score()
    credit = sampled.advantages * policy.logps
    wanted = {
        "grpo": policy.example_mean(policy.sums(credit) / policy.lengths),
        "rloo": policy.example_mean(policy.sums(credit)),
    }.get(name, policy.token_mean(credit))
    (wanted,) = torch.autograd.grad(-wanted, toy.logits)
    assert torch.allclose(gradient(objective, toy, sampled), wanted, atol=1e-6)
    assert torch.allclose(gradient(objective, toy, known(objective, toy, toy)), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ONLINE)
def test_better_answers_become_likelier_and_worse_ones_less_so(name: str, toy: Toy) -> None:
    objective = method(name, kl=0.0)
    stepped = Toy(toy.logits.detach() - 0.5 * gradient(objective, toy, known(objective, toy)), toy.roles)
    change = (stepped.score().answer_logps - toy.score().answer_logps.detach()).tolist()
    assert change[0] > 0 > change[1]
    assert change[3] > 0 > change[2]


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_equal_rewards_of_a_group_teach_nothing(name: str, toy: Toy) -> None:
    objective = method(name)
    found = gradient(objective, toy, known(objective, toy, scores=torch.tensor([0.1, 0.1, 0.7, 0.2]).double()))
    assert (found[:2] == 0).all()
    assert (found[2:] != 0).any()


@pytest.mark.parametrize("name", ["grpo", "ppo", "reinforce_pp"])
def test_tokens_that_went_far_enough_get_no_further_gradient(name: str, toy: Toy) -> None:
    objective = method(name, kl=0.0, clip=0.2, clip_high=0.3)
    sampled = replace(known(objective, toy), old=toy.score().logps.detach() - 0.25)  # ratio 1.28
    ahead = replace(sampled, old=toy.score().logps.detach() - 0.3)  # ratio 1.35
    good = sampled.advantages > 0

    def by_token(which: Sampled) -> Tensor:
        policy = toy.score()
        values = torch.zeros(len(policy.logps), 1) if objective.needs.heads else None
        total = objective(replace(policy, sampled=which, token_values=values)).total
        return torch.autograd.grad(total, policy.logps)[0]

    assert (by_token(sampled)[good] < 0).all()
    assert (by_token(ahead)[good] == 0).all()
    assert (by_token(ahead)[sampled.advantages < 0] > 0).all()


def test_a_kl_in_the_reward_is_taken_off_where_it_arises(toy: Toy) -> None:
    owner = toy.score().owner
    penalty = torch.where(torch.arange(len(owner)) == 1, 2.0, 0.0).double()  # second token of the first answer
    plain = method("ppo", whiten=False, lam=1.0)
    credit = [plain.credit(SCORES, p, drawn(plain, toy), 0).advantages for p in (torch.zeros_like(penalty), penalty)]
    change = (credit[1] - credit[0]).tolist()
    assert change[:3] == [-2.0, -2.0, 0.0]
    assert set(change[3:]) == {0.0}
    rloo = method("rloo")
    found = rloo.credit(SCORES, penalty, drawn(rloo, toy), 0).advantages
    assert found[0].item() == pytest.approx((1 - 2) - 0)


def test_a_stretched_reward_is_that_of_the_batch_and_what_is_taken_off_is_not(toy: Toy) -> None:
    objective = method("ppo", stretch=True, whiten=False, lam=1.0)
    penalty = torch.zeros(len(toy.score().owner), dtype=torch.float64)
    penalty[4] = 8.0  # the last token of the first answer
    found = objective.credit(5 * SCORES + 2, penalty, drawn(objective, toy), 0).advantages
    assert found[0].item() == pytest.approx(1.0 - 8.0)
    assert found[-1].item() == pytest.approx(0.9)


def test_costs_are_weighed_against_rewards(toy: Toy) -> None:
    """(A_r - m A_c) / (1 + m): nothing of the cost at m = 0, nothing of the reward when m is large."""
    objective = method("grpo", costs=("length",), limit=0.2, multiplier_rate=0.5)
    costs = torch.tensor([0.0, 1.0, 5.0, 2.0], dtype=torch.float64)
    both = replace(drawn(objective, toy), costs=costs)
    reward, cost = (objective.credit(x, both.penalty, both, 0).advantages for x in (SCORES, costs))
    assert torch.equal(objective.credited(both, 0.0)[0], reward)
    assert torch.allclose(objective.credited(both, 1e9)[0], -cost, atol=1e-6)
    assert torch.allclose(objective.credited(both, 3.0)[0], (reward - 3 * cost) / 4)
    carried = objective.begin()
    assert objective.carry(carried, None, 1.2, 8)["multiplier"] == pytest.approx(1.0 + 0.5 * 1.0)
    assert objective.carry(carried, None, 0.0, 8)["multiplier"] == pytest.approx(1.0 - 0.5 * 0.2)
    assert objective.carry({**carried, "multiplier": 0.01}, None, 0.0, 8)["multiplier"] == 0.0


def test_the_weight_of_the_kl_follows_its_target() -> None:
    objective = method("ppo", kl=0.1, kl_target=2.0, kl_horizon=100)
    for seen, factor in ((2.0, 1.0), (2.2, 1 + 0.1 * 0.5), (50.0, 1 + 0.2 * 0.5), (0.0, 1 - 0.2 * 0.5)):
        assert objective.carry(objective.begin(), seen, None, 50)["kl_weight"] == pytest.approx(0.1 * factor)
    assert method("ppo", kl=0.1).carry({"kl_weight": 0.1}, 50.0, None, 50) == {"kl_weight": 0.1}


def test_only_the_value_moves_where_it_is_wrong_and_nothing_is_better(toy: Toy) -> None:
    objective = method("ppo", kl=0.0, value=0.5, value_clip=None)
    sampled = known(objective, toy)
    sampled = replace(sampled, advantages=torch.zeros_like(sampled.advantages))
    values = torch.full((len(sampled.advantages), 1), 0.4, requires_grad=True)
    total = loss(objective, toy, sampled, values=values).total
    assert sampled.returns is not None
    slope, nothing = torch.autograd.grad(total, [values, toy.logits])
    assert torch.allclose(slope, 0.5 * (values.detach() - sampled.returns) / len(values), atol=1e-6)
    assert (nothing == 0).all()


def test_longer_answers_weigh_as_the_mean_says(toy: Toy) -> None:
    """A token of an answer of 5 tokens against one of an answer of 2, both of advantage 1."""
    weights: dict[str, list[float]] = {}
    for mean in ("sequence", "token", "constant"):
        objective = method("grpo", loss_mean=mean, max_new_tokens=10)
        policy = toy.score()
        sampled = Sampled(torch.ones_like(policy.logps))
        (found,) = torch.autograd.grad(objective(replace(policy, sampled=sampled)).total, policy.logps)
        weights[mean] = [-found[0].item(), -found[5].item()]
    assert weights["sequence"] == pytest.approx([1 / 4 / 5, 1 / 4 / 2])
    assert weights["token"] == pytest.approx([1 / 12, 1 / 12])
    assert weights["constant"] == pytest.approx([1 / 40, 1 / 40])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "grpo", "samples": 1}, "samples is at least 2"),
        ({"name": "rloo", "samples": 1}, "samples is at least 2"),
        ({"name": "reinforce_pp", "baseline": True}, "set samples to 2"),
        ({"name": "grpo", "kl": 0.1, "kl_kind": "k1"}, "in the loss the gradient of k1 is 0"),
        ({"name": "grpo", "kl": 0.1, "kl_target": 1.0}, "kl_target moves the weight of a KL in the reward"),
        ({"name": "ppo", "gamma": 1.5}, "gamma"),
        ({"name": "grpo", "pd": True}, "pd adds a term"),
        ({"name": "grpo", "sample": 4}, "samples"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_in_a_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises((ConfigError, KeyError), match=says) as caught:
        build(MethodConfig.model_validate(settings))
    assert "\n" not in str(caught.value)


def test_what_was_not_sampled_is_not_read(toy: Toy) -> None:
    policy: Scored = toy.score()
    with pytest.raises(RuntimeError, match="gets no rollouts"):
        method("grpo")(policy)
