"""Runs on rollouts: tokens as they were sampled, updates that follow the equations, kills, logs, and refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import MakeRecipe, log_of, tune
from tests.train.rolling import LETTERS, gradient, learner, logps_of, sampled
from vlmend.config import Recipe
from vlmend.errors import ConfigError, ModelError
from vlmend.models.merged import merged
from vlmend.rewards.begins import Begins
from vlmend.train import checkpoint
from vlmend.train.online import Tally
from vlmend.types import Rollout

Make = MakeRecipe


def weights(recipe: Recipe) -> bytes:
    return (recipe.output.dir / "adapter_model.safetensors").read_bytes()


def test_what_is_scored_is_what_was_sampled(make: Make) -> None:
    """Also where the text of the tokens would be read as others; with one share of the prompt, or none."""
    made = learner(make("grpo", samples=3))
    samples = sampled(made)
    tokenizer = made.run.codec.tokenizer
    assert any(
        tokenizer(s.rollout.text, add_special_tokens=False)["input_ids"]
        != list(s.ids[: -1 if s.rollout.finished else None])
        for s in samples
    )
    [micro] = made.writer(samples, compared=False)
    for row, sample in enumerate(samples):
        labels = micro.batch.labels[row]
        assert labels[labels != -100].tolist() == list(sample.ids)
    plain = learner(
        make("grpo", out="plain", samples=3, speed={"shared_prefix": False, "packing": False, "features": False})
    )
    assert not plain.run.ways.apart
    assert [s.ids for s in sampled(plain)] == [s.ids for s in samples]
    assert torch.allclose(logps_of(plain, samples), logps_of(made, samples), atol=1e-5)


def test_a_token_is_scored_as_likely_as_it_was_to_be_drawn(make: Make) -> None:
    """At a temperature too: frequencies of the first token over many samples."""
    made = learner(
        make("grpo", samples=600, max_new_tokens=1, temperature=0.03, train={"per_device_train_batch_size": 1})
    )
    samples = sampled(made)
    logps = logps_of(made, samples)
    by_token: dict[int, tuple[int, float]] = {}
    for sample, logp in zip(samples, logps.tolist(), strict=True):
        by_token[sample.ids[0]] = (by_token.get(sample.ids[0], (0, 0.0))[0] + 1, logp)
    often = [(seen / 600, torch.tensor(logp).exp().item()) for seen, logp in by_token.values() if seen > 20]
    assert often
    for share, p in often:
        assert abs(share - p) < 5 * (p * (1 - p) / 600) ** 0.5


def test_tokens_of_pictures_and_templates_are_never_said(make: Make) -> None:
    made = learner(
        make("grpo", samples=200, max_new_tokens=12, temperature=5.0, train={"per_device_train_batch_size": 1})
    )
    codec = made.run.codec
    said = {token for s in sampled(made) for token in s.ids}
    assert {codec.image_id, codec.pad_id} <= codec.unspeakable
    assert not said & codec.unspeakable
    assert not codec.eos_ids & codec.unspeakable
    made.sampler._engine._banned = frozenset()
    assert {t for s in sampled(made) for t in s.ids} & codec.unspeakable  # which it would have


def test_answers_follow_from_seed_step_prompt_and_number(make: Make) -> None:
    made, other = learner(make("rloo")), learner(make("rloo", out="other", train={"seed": 1}))
    first = [s.ids for s in sampled(made)]
    assert [s.ids for s in sampled(made)] == first
    examples = [made.run.examples[i] for (i,) in made.run.plan.step(0)]
    assert [s.ids for s in made.sampler(examples, [1.0] * 2, 1, (0, 1))] != first
    assert [s.ids for s in made.sampler(examples[1:], [1.0], 0, (1,))] == first[4:], "whoever is asked beside it"
    assert [s.ids for s in sampled(other)] != first
    assert len({s.ids for s in sampled(made) if s.group == 0}) > 1


def test_an_adapter_in_the_weights_is_the_adapter_beside_them(make: Make) -> None:
    made = learner(make("grpo", model={"lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.5}}))
    model = made.run.model
    with torch.no_grad():
        for name, p in made.run.trained.items():
            if "lora_B" in name:
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.eval()
    samples = sampled(made)
    apart = logps_of(made, samples)
    with merged(model) as done:
        assert done
        inside = logps_of(made, samples)
    assert torch.allclose(apart, inside, atol=1e-5)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(logps_of(made, samples), apart)


def test_the_first_update_finds_a_ratio_of_one(make: Make) -> None:
    made = learner(
        make("ppo", epochs=2, minibatches=2, kl=0.1, model={"lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.5}})
    )
    with torch.no_grad():  # so that dropout, were there any, would be seen
        for name, p in made.run.trained.items():
            p.add_(0.1 if "lora_B" in name else 0.0)
    ratios: list[float] = []
    honest = made._count_ratio

    def look(policy: Any, tally: Any) -> None:
        ratios.append(float((policy.ratio - 1).detach().abs().max()))
        honest(policy, tally)

    made._count_ratio = look  # pyright: ignore[reportAttributeAccessIssue]
    made.step()
    assert len(ratios) == 4
    assert ratios[0] < 1e-5
    assert ratios[-1] > 1e-3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grpo", {"kl": 0.2}),
        ("grpo", {"loss_mean": "token"}),
        ("rloo", {"temperature": 1.5}),
        ("ppo", {"epochs": 1, "entropy": 0.1}),
    ],
)
def test_padding_and_what_a_pass_holds_change_no_gradient(make: Make, name: str, settings: dict[str, Any]) -> None:
    """Shared and packed in one pass, prompt by prompt, or each answer padded by itself."""
    ways: dict[str, dict[str, Any]] = {
        "shared": {"train": {"per_device_train_batch_size": 4}},
        "apart": {"train": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}},
        "plain": {
            "train": {"per_device_train_batch_size": 4},
            "speed": {"shared_prefix": False, "packing": False, "features": False, "answer_logits": False},
        },
    }
    found = {way: gradient(learner(make(name, out=way, **settings, **how))) for way, how in ways.items()}
    for way in ("apart", "plain"):
        assert found[way].keys() == found["shared"].keys()
        for weight, value in found["shared"].items():
            assert (found[way][weight] - value).norm() <= 1e-4 * value.norm() + 1e-7


def test_groups_that_teach_nothing_are_left_out_and_change_nothing(make: Make) -> None:
    """The tokens of a dead group count in the mean and do not go through the model again."""
    rewards = [{"reward": LETTERS, "cap": 0.5}]
    train = {"per_device_train_batch_size": 8}
    quick = learner(make("grpo", out="quick", rewards=rewards, loss_mean="token", train=train))
    slow = learner(make("grpo", out="slow", rewards=rewards, loss_mean="token", train=train))
    object.__setattr__(slow.objective, "__class__", type("Slow", (type(slow.objective),), {"idle": False}))
    one, two = gradient(quick), gradient(slow)
    for weight, value in two.items():
        assert (one[weight] - value).norm() <= 1e-4 * value.norm() + 1e-7


class Death(BaseException):
    """Stands for a kill at one exact place."""


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grpo", {"kl": 0.1}),
        ("ppo", {"epochs": 2, "minibatches": 2, "kl_target": 0.5, "costs": ["length?per_token=-1"], "limit": 0.01}),
    ],
)
def test_a_kill_changes_no_bit(
    make: Make, name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"max_steps": 4, "save_steps": 1, "logging_steps": 2}
    whole, killed = make(name, out="whole", train=train, **settings), make(name, out="killed", train=train, **settings)
    tune(whole)
    honest = checkpoint.save_checkpoint
    with monkeypatch.context() as patch:

        def dies(*args: Any) -> Path:
            if args[1].step > 3:
                raise Death
            return honest(*args)

        patch.setattr(checkpoint, "save_checkpoint", dies)
        with pytest.raises(Death):
            tune(killed)
    outcome, _ = tune(killed)
    assert outcome.resumed_from == 3
    assert weights(whole) == weights(killed)

    def logged(recipe: Recipe) -> list[dict[str, float]]:
        return [
            {n: v for n, v in entry["rollouts"].items() if not n.startswith("seconds")}
            for entry in log_of(recipe.output.dir)
        ]

    assert logged(whole) == logged(killed)
    if name == "ppo":
        head = [(recipe.output.dir / "value_head.safetensors").read_bytes() for recipe in (whole, killed)]
        assert head[0] == head[1]
        last = logged(whole)[-1]
        assert last["multiplier"] > 1
        assert last["cost"] == pytest.approx(last["length"])  # a reward of -1 for each token


def test_the_log_tells_what_came_of_it(make: Make) -> None:
    """Every reward by its name, every kind of request, lengths, groups, seconds; and the better answers come."""
    train = {"max_steps": 12, "learning_rate": 0.02, "per_device_train_batch_size": 6, "num_train_epochs": 20}
    rewards = [{"reward": LETTERS, "name": "letters"}, {"reward": "length?per_token=0.1", "weight": 0.01}]
    recipe = make("grpo", samples=8, rewards=rewards, train=train)
    _, shown = tune(recipe)
    rows = [entry["rollouts"] for entry in log_of(recipe.output.dir)]
    kinds = {f"{what}@answer" for what in ("reward", "length", "dead")}
    named = {"reward", "reward/letters", "reward/length?per_token=0.1", "length", "cut", "dead", "unscored"}
    assert kinds | named | {"entropy", "seconds/rollouts", "seconds/rewards", "seconds/updates"} <= set(rows[0])
    assert 0.5 < rows[0]["cut"] <= 1.0
    assert 3.0 < rows[0]["length"] <= 6.0
    assert rows[-1]["reward/letters"] > rows[0]["reward/letters"]
    assert rows[-1]["reward"] == pytest.approx(rows[-1]["reward/letters"] + 0.001 * rows[-1]["length"])
    assert f"reward {rows[-1]['reward']:.3g}" in shown
    said = [entry["said"] for entry in log_of(recipe.output.dir)]
    assert all(len(each) == 1 and len(set(each[0]["text"])) / 10 <= each[0]["reward"] for each in said)


def test_a_cut_answer_is_worth_less(make: Make) -> None:
    """By that much, at its end: its advantage among answers that all had the same reward is below those that ended."""
    recipe = make("rloo", rewards=["length?per_token=1&most=1"], unfinished=2.0, samples=60, max_new_tokens=3)
    made = learner(recipe)
    samples = sampled(made)
    taken = made._unfinished(
        samples, torch.repeat_interleave(torch.arange(120), torch.tensor([len(s.ids) for s in samples]))
    )
    cut = [not s.rollout.finished for s in samples]
    assert any(cut)
    assert taken.sum().item() == 2.0 * sum(cut)
    ends = torch.tensor([len(s.ids) for s in samples]).cumsum(0) - 1
    assert taken[ends].tolist() == [2.0 * each for each in cut]


def test_a_kind_of_request_that_nothing_is_learned_of_ends_the_run(make: Make) -> None:
    recipe = make("grpo", rewards=["begins:what nobody says"], train={"max_steps": 9})
    with pytest.raises(ModelError, match=r"first 5 batches all answers to each of the 10 prompts.*tune by SFT first"):
        tune(recipe)
    assert len(log_of(recipe.output.dir)) == 4


def test_answers_that_nobody_can_value_are_left_out_and_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """They weigh nothing, as if they had not been sampled; none at all is an error."""

    def call(self: Begins, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [None if i % 3 == 0 or self.words == "x" else len(set(r.text)) for i, r in enumerate(rollouts)]

    monkeypatch.setattr(Begins, "__call__", call)
    recipe = make("grpo", samples=6, train={"max_steps": 2})
    tune(recipe)
    assert log_of(recipe.output.dir)[0]["rollouts"]["unscored"] == pytest.approx(1 / 3)
    with pytest.raises(ModelError, match="none of the 12 answers sampled at step 1 could be valued"):
        tune(make("grpo", out="none", samples=6, rewards=["begins:x"]))


def test_the_value_head_learns_a_known_return(make: Make) -> None:
    """Every answer is worth 3, whatever it is: so is every state, for gamma = 1."""
    train = {
        "max_steps": 4, "learning_rate": 0.05, "per_device_train_batch_size": 4,
        "lr_scheduler_type": "constant_with_warmup",
    }  # fmt: skip
    settings = {"kl": 0.0, "value": 1.0, "value_clip": None, "lam": 1.0, "epochs": 32, "clip": 1e-3, "detach": True}
    recipe = make("ppo", rewards=["length?per_token=3&most=1"], train=train, **settings)
    made = learner(recipe)
    for _ in range(4):
        made.step()
        made.run.progress.step += 1
    samples = sampled(made, 4)
    values = torch.cat([t.values for t in made._look_back(samples, Tally()) if t.values is not None])
    assert (values - 3).abs().mean() < 0.5
    assert values.shape == (sum(len(s.ids) for s in samples), 1)


def test_weights_tuned_in_full_are_compared_with_what_they_were(make: Make) -> None:
    """The KL starts at 0 and grows; what is kept of before is not moved."""
    full = {"tune": "full", "train": ["language_model"]}
    recipe = make(
        "grpo", kl=0.01, model=full, train={"max_steps": 6, "learning_rate": 0.003, "per_device_train_batch_size": 4}
    )
    tune(recipe)
    seen = [entry["rollouts"]["kl"] for entry in log_of(recipe.output.dir)]
    assert seen[0] == pytest.approx(0.0, abs=1e-5)
    assert seen[-1] > 1e-3


def test_what_it_cannot_do_is_said_before_it_starts(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"train\.reference: cached keeps log-probabilities of the data's answers"):
        tune(make("grpo", kl=0.1, train={"reference": "cached"}))
    with pytest.raises(ConfigError, match=r"rewards\.0"):
        tune(make("grpo", out="a", rewards=["nonsense"]))


def test_prompts_need_no_answers(make: Make, data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    file = data.parent / f"{tmp_path.name}.jsonl"
    file.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "answer"}) + "\n" for row in rows))
    outcome, shown = tune(make("rloo", data={"mix": [{"source": f"jsonl:{file}"}]}))
    assert outcome.steps == 3
    assert "answers are the model's own" in shown
    assert replace(outcome).mask_report["supervised"] == 0
