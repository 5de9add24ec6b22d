"""What one step computes: against an independent cross-entropy, and against itself cut in other pieces."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from tests.train.conftest import MakeRecipe, ready
from vlmend.data.batches import Plan
from vlmend.objectives.sft import Sft
from vlmend.ops.scored import Loss, Needs, Scored, Totals
from vlmend.train.loop import Tuning, accumulate, encode, take_step
from vlmend.train.reference import Live, untuned
from vlmend.train.scoring import Micro, count_totals
from vlmend.types import Role

FULL = {"tune": "full"}


def gradients(run: Tuning, window: list[Micro]) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    for p in run.trained.values():
        p.grad = None
    values = accumulate(run, window)
    return {name: p.grad.clone() for name, p in run.trained.items() if p.grad is not None}, values


def pieces(run: Tuning, sizes: list[int], weights: list[float] | None = None) -> list[Micro]:
    """The first examples as micro-batches of the given sizes."""
    examples = list(run.examples[: sum(sizes)])
    weights = weights or [1.0] * len(examples)
    window, at = [], 0
    for size in sizes:
        batch = run.codec.encode_training(examples[at : at + size])
        alone = Micro(batch, tuple(weights[at : at + size]))
        window.append(replace(alone, compared=alone))
        at += size
    return window


def nearly(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], tolerance: float = 1e-6) -> bool:
    """Relative to the norm of the whole gradient: 1e-6 of it, a few roundings of fp32."""
    size = sum(g.double().pow(2).sum() for g in one.values()).sqrt()
    gap = sum((one[n].double() - two[n].double()).pow(2).sum() for n in one).sqrt()
    return one.keys() == two.keys() and bool(gap <= tolerance * size)


@pytest.mark.parametrize("sizes", [[1] * 11, [7, 1, 3], [2, 9]])
def test_uneven_micro_batches_add_up_to_one_big_batch(make_recipe: MakeRecipe, sizes: list[int]) -> None:
    run = ready(make_recipe(model=FULL))
    whole, values = gradients(run, pieces(run, [11]))
    parts, sums = gradients(run, pieces(run, sizes))
    assert nearly(whole, parts)
    assert sums["loss"] == pytest.approx(values["loss"], rel=1e-6)
    assert sums["tokens"] == values["tokens"]


def test_the_mean_of_micro_batch_means_would_not_pass(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model=FULL))
    whole, _ = gradients(run, pieces(run, [11]))
    means: dict[str, torch.Tensor] = {}
    for micro in pieces(run, [7, 1, 3]):
        alone, _ = gradients(run, [micro])
        means = {name: means.get(name, 0) + g / 3 for name, g in alone.items()}
    assert not nearly(whole, means, 1e-2)


def test_the_loss_is_the_cross_entropy_of_the_labels(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model=FULL))
    window = pieces(run, [4, 7])
    whole, values = gradients(run, window)
    for p in run.trained.values():
        p.grad = None
    lost, count = torch.zeros(()), 0
    for micro in window:
        batch = micro.batch
        for row in range(len(batch.examples)):  # one at a time, without its padding
            length = int(batch.inputs["attention_mask"][row].sum())
            pictures = [len(e.images) for e in batch.examples]
            first = sum(pictures[:row])
            inputs = {"input_ids": batch.inputs["input_ids"][row : row + 1, :length]}
            if pictures[row]:
                inputs["pixel_values"] = batch.inputs["pixel_values"][first : first + pictures[row]]
            logits = run.model(**inputs).logits[0]
            labels = batch.labels[row, 1:length]
            lost = lost + F.cross_entropy(logits[:-1], labels, ignore_index=-100, reduction="sum")
            count += int((labels != -100).sum())
    (lost / count).backward()
    assert values["loss"] == pytest.approx(float(lost.detach()) / count, rel=1e-5)
    assert nearly({n: p.grad for n, p in run.trained.items() if p.grad is not None}, whole, 1e-5)


def test_the_loss_equals_that_of_transformers(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model=FULL))
    window = pieces(run, [11])
    _, values = gradients(run, window)
    theirs = run.model(**window[0].batch.inputs, labels=window[0].batch.labels).loss
    assert values["loss"] == pytest.approx(float(theirs.detach()), rel=1e-6)


def test_a_weight_of_two_is_an_example_shown_twice(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model=FULL))
    weighted, one = gradients(run, pieces(run, [2, 1], [2.0, 1.0, 1.0]))
    examples = [run.examples[i] for i in (0, 0, 1, 2)]
    twice, two = gradients(run, [Micro(run.codec.encode_training(examples), (1.0,) * 4)])
    assert nearly(weighted, twice)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-6)


def test_an_example_of_weight_zero_is_as_if_it_were_not_there(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model=FULL))
    padded, one = gradients(run, pieces(run, [2, 1], [1.0, 1.0, 0.0]))
    plain, two = gradients(run, pieces(run, [2]))
    assert nearly(padded, plain)
    assert one == pytest.approx(two)


class ByRole:
    """Token mean of one role, example mean of another: every denominator in one objective."""

    needs: ClassVar[Needs] = Needs(((Role.SAFETY, Role.UTILITY),))

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        one, two = policy.only(Role.SAFETY), policy.only(Role.UTILITY)
        safety = one.token_mean(-one.logps)
        utility = 0.5 * two.example_mean(-two.answer_logps)
        return Loss(safety + utility, {"safety": safety.detach(), "utility": utility.detach()})


def test_roles_have_their_own_means_and_parts_sum_to_the_loss(make_recipe: MakeRecipe) -> None:
    run = replace(ready(make_recipe(model=FULL)), objective=ByRole())
    whole, one = gradients(run, pieces(run, [11]))
    parts, two = gradients(run, pieces(run, [1, 7, 3]))
    assert nearly(whole, parts)
    assert one == pytest.approx(two, rel=1e-5)
    assert one["parts/safety"] + one["parts/utility"] == pytest.approx(one["loss"], rel=1e-6)
    batch = pieces(run, [11])[0].batch
    totals = count_totals(pieces(run, [11]), run.team)
    roles = [example.role for example in batch.examples]
    assert totals.examples[Role.SAFETY] == roles.count(Role.SAFETY) == 7
    assert totals.examples[Role.UTILITY] == 4
    assert Totals.of(totals.tokens, None) == int((batch.labels != -100).sum())
    doubled = count_totals(pieces(run, [7, 4], [2.0] * 11), run.team)
    assert doubled.examples[Role.SAFETY] == 14
    assert doubled.tokens == {role: 2 * count for role, count in totals.tokens.items()}


class Ratio(Sft):
    """Asks for the reference and tells how far the policy is from it."""

    needs: ClassVar[Needs] = replace(Sft.needs, reference=Sft.needs.roles)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        assert reference is not None
        assert not reference.logps.requires_grad
        gap = policy.token_mean((policy.logps - reference.logps).pow(2))
        return Loss(gap - policy.token_mean(policy.logps), {"gap": gap.detach()})


def test_the_reference_is_the_model_before_tuning(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model={"train": ["language_model", "projector"]}))
    run = replace(run, objective=Ratio(), reference=Live(run.before, {}))
    window = pieces(run, [3])
    _, values = gradients(run, window)
    assert values["parts/gap"] == pytest.approx(0, abs=1e-9)
    totals = count_totals(window, run.team)
    before = run.forward(window[0], totals).logps.detach()
    with torch.no_grad():
        for p in run.trained.values():
            p.add_(0.3)
    moved, values = gradients(run, window)
    assert values["parts/gap"] > 1e-3
    assert moved.keys() == run.trained.keys()  # turning the adapter off and on left it trainable
    with untuned(run.model, {}) as model:
        assert torch.allclose(run.forward(window[0], totals).logps, before, atol=1e-6)
        assert not model.training
    assert run.model.training


def test_a_step_repeats_its_dropout(make_recipe: MakeRecipe) -> None:
    runs = [ready(make_recipe(model={"lora": {"lora_dropout": 0.5}})) for _ in range(2)]
    torch.manual_seed(1)
    first = take_step(runs[0], encode(runs[0], 0))
    torch.manual_seed(2)
    assert take_step(runs[1], encode(runs[1], 0)) == first
    assert all(torch.equal(p, runs[1].trained[name]) for name, p in runs[0].trained.items())


def test_steps_differ_in_their_dropout(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model={"lora": {"lora_dropout": 0.5}}, train={"learning_rate": 1e-20}))
    window = pieces(run, [4])
    norms: list[float] = []
    for step in range(3):
        run.progress.step = step
        norms.append(take_step(run, window)["grad_norm"])
    assert len(set(norms)) == 3


def test_a_step_clips_its_gradient_says_its_true_norm_and_leaves_none(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe(model=FULL, train={"max_grad_norm": 1e-3}))
    used: list[float] = []
    honest = run.optimizer.step

    def step() -> None:
        used.append(sum(float(p.grad.pow(2).sum()) for p in run.trained.values() if p.grad is not None) ** 0.5)
        honest()

    run.optimizer.step = step  # type: ignore[method-assign]
    window = pieces(run, [4])
    unclipped, _ = gradients(run, window)
    true = sum(float(g.pow(2).sum()) for g in unclipped.values()) ** 0.5
    run.optimizer.zero_grad()
    values = take_step(run, window)
    assert used == [pytest.approx(1e-3, rel=1e-3)]
    assert values["grad_norm"] == pytest.approx(true, rel=1e-5)
    assert all(p.grad is None for p in run.trained.values())


def test_a_process_without_an_example_shows_one_of_weight_zero(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe())
    last = replace(run, plan=Plan((((0,), (1,)),), 2, processes=3), team=SimpleNamespace(rank=2))  # type: ignore[arg-type]
    assert [micro.weights for micro in encode(last, 0)] == [(0.0,)]
