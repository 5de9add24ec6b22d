"""Reward and cost models through whole runs: the head is trained, kept, goes on after a kill, and loads as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.train.conftest import log_of, ready, tune
from tests.train.test_preference import PAIRS
from tests.train.test_preference import make as make  # fixtures
from tests.train.test_preference import pictures as pictures
from tests.train.test_resume import Death
from vlmend.config import Recipe, parse_recipe
from vlmend.data.dataset import load_pairs
from vlmend.errors import ConfigError, DataError, ModelError, UsageError
from vlmend.evaluate.preferring import measure
from vlmend.judge.models import Models
from vlmend.models import valuer
from vlmend.models.load import load
from vlmend.rewards import from_spec
from vlmend.rewards.length import Length
from vlmend.train import checkpoint
from vlmend.train.loop import Tuning, accumulate, encode, take_step
from vlmend.train.scoring import count_totals
from vlmend.types import Example, Role, Rollout

Make = Callable[..., Recipe]
MORE = {"max_steps": 4, "num_train_epochs": 4, "save_steps": 1, "per_device_train_batch_size": 3}


def values(run: Tuning) -> dict[str, float]:
    """What the head says of every example, by id."""
    found: dict[str, float] = {}
    run.model.eval()
    for step in range(2):
        for micro in encode(run, step):
            with torch.no_grad():
                scored = run.forward(micro, count_totals([micro], run.team, run.objective.needs.look))
            found |= dict(zip((e.id for e in micro.batch.examples), scored.values.tolist(), strict=True))
    return found


def rollouts(examples: Any) -> list[Rollout]:
    return [Rollout(e, e.answers[0], 1, finished=True) for e in examples]


def trained(recipe: Recipe, steps: int = 4) -> Tuning:
    run = ready(recipe)
    for step in range(steps):
        take_step(run, encode(run, step % 2))
    return run


def test_it_starts_at_log_2_and_the_first_step_moves_the_head_alone_of_what_it_reads(make: Make) -> None:
    run = ready(make("reward", PAIRS))
    loss = accumulate(run, encode(run, 0))["loss"]
    assert loss == pytest.approx(torch.tensor(2.0).log().item())
    assert set(values(run).values()) == {0.0}
    grads = {name: p.grad for name, p in run.trained.items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert set(grads) == {"head.weight"}  # a bias is the same on both sides, and a head of zeros tells nobody


@pytest.mark.parametrize("method", ["reward", "cost"])
def test_the_chosen_side_comes_out_on_top(make: Make, method: str) -> None:
    found = values(trained(make(method, PAIRS), 12))
    margins = [found[f"p{i}/chosen"] - found[f"p{i}/rejected"] for i in range(6)]
    assert all((margin > 0.1) if method == "reward" else (margin < -0.1) for margin in margins)


def test_shared_and_plain_passes_say_the_same(make: Make) -> None:
    """Shared prefixes, packing and a head at chosen places change no number and no gradient."""
    plain = {name: False for name in ("shared_prefix", "packing", "answer_logits", "features")}
    recipe = make("reward", PAIRS, {"sft": 0.5})
    runs = [trained(recipe), trained(recipe.model_copy(update={"speed": recipe.speed.model_copy(update=plain)}))]
    assert runs[0].ways.share
    assert not runs[1].ways.apart
    fast, slow = map(values, runs)
    assert fast == pytest.approx(slow, rel=1e-3, abs=1e-5)
    assert max(map(abs, fast.values())) > 0.01


def test_what_is_loaded_says_what_was_trained(make: Make) -> None:
    """Of every answer, with adapter, head and pictures shared in other company than in training."""
    recipe = make("reward", PAIRS, **MORE)
    tune(recipe)
    run = ready(recipe)  # its weights put where the run ended
    saved = load_file(recipe.output.dir / "adapter_model.safetensors")
    head = load_file(recipe.output.dir / "head.safetensors")
    with torch.no_grad():
        for name, parameter in run.trained.items():
            plain = name.replace(".default.", ".")
            parameter.copy_(head[name.removeprefix("head.")] if name.startswith("head.") else saved[plain])
    told = values(run)
    reward = from_spec(f"model:{recipe.output.dir}")
    found = dict(zip((e.id for e in run.examples), reward(rollouts(run.examples)), strict=True))
    assert found == pytest.approx(told, rel=1e-4, abs=1e-6)
    assert len({round(value, 6) for value in told.values()}) > 3
    alone = [reward([one])[0] for one in rollouts(run.examples)]
    assert alone == pytest.approx(list(found.values()), rel=1e-4, abs=1e-6)
    about = json.loads((recipe.output.dir / "head.json").read_text())
    assert about == {"kind": "reward", "base": recipe.model.name, "adapted": True, "places": "end"}


def test_a_cost_is_a_reward_turned_around(make: Make) -> None:
    recipe = make("cost", PAIRS, **{**MORE, "max_steps": 8, "num_train_epochs": 8})
    tune(recipe)
    reward = from_spec(f"model:{recipe.output.dir}")
    rows = ready(recipe).examples
    found = dict(zip((e.id for e in rows), reward(rollouts(rows)), strict=True))
    assert all(found[f"p{i}/chosen"] > found[f"p{i}/rejected"] for i in range(6))


def test_tuned_in_full_the_head_lies_beside_the_model(make: Make) -> None:
    recipe = make("reward", PAIRS, **MORE)
    recipe = parse_recipe({**recipe.resolved(), "model": {**recipe.resolved()["model"], "tune": "full"}})
    tune(recipe)
    assert valuer.describe(recipe.output.dir).adapted is False
    reward = from_spec(f"model:{recipe.output.dir}")
    found = reward(rollouts(ready(recipe).examples))
    assert len(set(found)) > 3


def test_death_between_checkpoints_changes_no_bit_of_the_head(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = (make("reward", PAIRS, **MORE) for _ in range(2))
    whole, killed = (
        parse_recipe({**r.resolved(), "output": {"dir": str(r.output.dir.with_name(name))}})
        for r, name in ((whole, "whole"), (killed, "killed"))
    )
    tune(whole)
    honest, calls = checkpoint.save_checkpoint, iter(range(100))

    def dies(*args: Any) -> Path:
        if next(calls) == 2:
            raise Death
        return honest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", dies)
        with pytest.raises(Death):
            tune(killed)
    outcome, _ = tune(killed)
    assert outcome.resumed_from == 2
    for name in ("head.safetensors", "adapter_model.safetensors"):
        assert (whole.output.dir / name).read_bytes() == (killed.output.dir / name).read_bytes()
    assert [e["loss"] for e in log_of(whole.output.dir)] == [e["loss"] for e in log_of(killed.output.dir)]


def test_the_head_is_among_what_trains_and_what_the_manifest_names(make: Make) -> None:
    recipe = make("reward", PAIRS)
    outcome, shown = tune(recipe)
    assert "head" in shown
    width = load_file(recipe.output.dir / "head.safetensors")["weight"].shape[1]
    assert outcome.trainable["head"] == {"trained": width + 1, "total": width + 1}
    manifest = json.loads((recipe.output.dir / "manifest.json").read_text())
    assert {"head.weight", "head.bias"} <= set(manifest["trained"])
    assert "head.safetensors" in manifest["weights"]
    adapter = load(recipe.model.model_copy(update={"adapter": str(recipe.output.dir)}))
    assert adapter.base  # whoever wants the adapter alone can load it as ever


def test_margins_come_from_rows_and_a_row_without_one_is_named(make: Make) -> None:
    rows = [{**row, "meta": {"gap": str(i)}} for i, row in enumerate(PAIRS)]
    run = ready(make("reward", rows, {"margin_key": "gap"}))
    scored = [run.forward(m, count_totals([m], run.team, run.objective.needs.look)) for m in encode(run, 0)]
    gaps = {e.id: float(e.meta["gap"]) for e in run.examples}
    for micro, one in zip(encode(run, 0), scored, strict=True):
        assert one.numbers is not None
        wanted = [gaps[e.id] if e.role is Role.SAFETY else 0.0 for e in micro.batch.examples]
        assert one.numbers.tolist() == wanted
    with pytest.raises(DataError, match=r"'p3/chosen': this method reads a number from meta 'gap'; it has no such key"):
        ready(make("reward", [*rows[:3], PAIRS[3]], {"margin_key": "gap"}))
    bad = [{**row, "meta": {"gap": "wide"}} for row in PAIRS]
    with pytest.raises(DataError, match="it has 'wide'"):
        ready(make("reward", bad, {"margin_key": "gap"}))


def test_a_folder_without_a_head_or_its_base_is_one_line(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no reward or cost model: there is no head\.json"):
        from_spec(f"model:{tmp_path}")
    recipe = make("reward", PAIRS)
    tune(recipe)
    with pytest.raises(ModelError, match="no model 'elsewhere'"):
        from_spec(f"model:{recipe.output.dir}?base=elsewhere")
    with pytest.raises(ModelError, match="was tuned on other weights"):
        from_spec(f"model:{recipe.output.dir}?base=world")(rollouts([Example("e", (), ("x",))]))


def test_what_was_tuned_by_a_judge_is_not_judged_by_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before tuning of judges that the recipe names, and after it by the manifest beside the weights."""
    monkeypatch.setattr(Length, "__call__", lambda _, said: [float(len(set(r.text))) for r in said])  # a random model's
    rows = [{**row, "answer": "Yes.", "chosen": None, "rejected": None} for row in PAIRS]
    rows = [{key: value for key, value in row.items() if value} for row in rows]
    settings = {"rewards": ["rule?match=refusal", "length"], "samples": 4, "max_new_tokens": 6}
    recipe = make("grpo", rows, settings, max_steps=1, per_device_train_batch_size=2)
    judged = parse_recipe({**recipe.resolved(), "judging": {"judges": ["refused=refusal"]}})
    with pytest.raises(ConfigError, match=r"judge refusal is a reward of method grpo \(rule\?match=refusal\)"):
        tune(judged)
    assert not recipe.output.dir.exists()
    tune(recipe)
    tested = Models().testing(f"{recipe.model.name}+{recipe.output.dir}")
    with pytest.raises(UsageError, match="judge refusal was the reward"):
        tested.for_judge("refusal")
    assert tested.for_judge("exact")


def test_on_the_world_it_learns_what_is_preferred(tmp_path: Path) -> None:
    """Refusals where they are due and nowhere else, on requests and pictures it has not seen."""
    recipe = parse_recipe(
        {
            "model": {"name": "world", "device": "cpu"},
            "method": {"name": "reward"},
            "data": {"mix": [{"source": "world:preference#train?n=600"}]},
            "train": {"learning_rate": 4e-3, "max_steps": 36, "num_train_epochs": 4, "warmup_ratio": 0.1},
            "output": {"dir": str(tmp_path / "reward")},
        }
    )
    tune(recipe)
    pairs = load_pairs("world:preference#test?n=100").pairs
    found = measure(from_spec(f"model:{tmp_path / 'reward'}"), pairs, "subset")
    assert found.accuracy.value is not None
    assert found.accuracy.value > 0.7  # to prefer refusals whatever is asked, or answers, is right half the time
