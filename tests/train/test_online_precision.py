"""Learning from rollouts in bfloat16 and with blocks that are computed again: the same policy, the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.train.conftest import MakeRecipe
from tests.train.rolling import gradient, learner, logps_of, sampled

HALF = {"autocast": {"train": {"bf16": True}}, "weights": {"model": {"dtype": "bfloat16"}}}
METHODS = [("grpo", {"kl": 0.1}), ("ppo", {"epochs": 2, "minibatches": 2})]


@pytest.mark.parametrize("how", HALF)
@pytest.mark.parametrize(("name", "settings"), METHODS)
def test_in_bfloat16_the_first_update_finds_a_ratio_of_one(
    make: MakeRecipe, how: str, name: str, settings: dict[str, Any]
) -> None:
    """Within what bfloat16 tells apart: the pass that looked back may have held other answers beside these."""
    made = learner(make(name, **{"epochs": 2, **settings}, **HALF[how]))
    assert (made.run.ways.autocast or made.run.model.dtype) is torch.bfloat16
    with torch.no_grad():
        for weight, p in made.run.trained.items():
            p.add_(0.05 if "lora_B" in weight else 0.0)
    ratios: list[float] = []
    honest = made._count_ratio

    def look(policy: Any, tally: Any) -> None:
        assert policy.logps.dtype == policy.ratio.dtype == torch.float32
        ratios.append(float((policy.ratio - 1).detach().abs().max()))
        honest(policy, tally)

    made._count_ratio = look  # pyright: ignore[reportAttributeAccessIssue]
    made.step()
    assert ratios[0] < 0.05
    assert ratios[-1] > 2 * ratios[0]


@pytest.mark.parametrize("how", HALF)
def test_in_bfloat16_what_is_sampled_is_what_is_scored(make: MakeRecipe, how: str) -> None:
    """Drawn with the adapter in the weights where those are fp32, scored with it beside: as often as it is likely."""
    train = {"per_device_train_batch_size": 1, **HALF[how].get("train", {})}
    more = {key: value for key, value in HALF[how].items() if key != "train"}
    made = learner(make("grpo", samples=600, max_new_tokens=1, temperature=0.03, train=train, **more))
    samples = sampled(made)
    likely = dict(zip([s.ids[0] for s in samples], logps_of(made, samples).exp().tolist(), strict=True))
    often = {token: sum(s.ids[0] == token for s in samples) / 600 for token in likely}
    known = [token for token, share in often.items() if share > 1 / 30]
    assert known
    for token in known:
        p = likely[token]
        assert abs(often[token] - p) < 5 * (p * (1 - p) / 600) ** 0.5 + 0.1 * p


@pytest.mark.parametrize(("name", "settings"), METHODS)
def test_the_gradient_in_bfloat16_points_where_that_of_fp32_does(
    make: MakeRecipe, name: str, settings: dict[str, Any]
) -> None:
    plain = learner(make(name, **settings))
    samples = sampled(plain)
    true = gradient(plain)
    for how, sections in HALF.items():
        half = learner(make(name, out=how, **settings, **sections))
        half._sampled = lambda: samples  # type: ignore[method-assign]
        found = gradient(half)
        one, two = (torch.cat([g.flatten().float() for g in each.values()]) for each in (true, found))
        assert torch.cosine_similarity(one, two, dim=0) > 0.99, how


@pytest.mark.parametrize("half", [{}, {"bf16": True}], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("name", "settings"), [*METHODS, ("rloo", {"kl": 0.1, "kl_kind": "full"})])
def test_blocks_that_are_computed_again_change_no_gradient(
    make: MakeRecipe, name: str, settings: dict[str, Any], half: dict[str, bool]
) -> None:
    """The same answers too: while they are sampled nothing is computed again."""
    kept = learner(make(name, out="kept", train=half, **settings))
    again = learner(make(name, out="again", train={**half, "gradient_checkpointing": True}, **settings))
    assert again.run.model.is_gradient_checkpointing
    assert [s.ids for s in sampled(again)] == [s.ids for s in sampled(kept)]
    one, two = gradient(kept), gradient(again)
    assert one.keys() == two.keys()
    for weight, value in one.items():
        assert (two[weight] - value).norm() <= 1e-5 * value.norm() + 1e-9, weight
