"""Prompts and rewards handed to other trainers: the rows say what we show, and answers are worth what they are here."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image as Pictures

from tests.train.conftest import MakeRecipe
from tests.train.rolling import learner, sampled
from vlmend.cli import main
from vlmend.config import Recipe
from vlmend.data.mix import build
from vlmend.errors import ConfigError, StoreError, UnknownName
from vlmend.models.load import load
from vlmend.train import handover

RULE = {"reward": "rule?finished=false", "weight": 3.0}
LENGTH = {"reward": "length?per_token=0.25"}


def module(folder: Path) -> ModuleType:
    """The folder's `reward.py`."""
    spec = importlib.util.spec_from_file_location("reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def rows_of(folder: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """As both programs read them."""
    file = str(folder / "train.parquet")
    return list(load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache")))


def same_picture(shown: Any, data: bytes) -> bool:
    known = Pictures.open(io.BytesIO(data)).convert("RGB")
    return bool(np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(known)))


@pytest.mark.parametrize("program", ["trl", "verl"])
def test_rows_say_what_is_shown_and_asked(make: MakeRecipe, tmp_path: Path, program: str) -> None:
    recipe, folder = make("grpo"), tmp_path / program
    assert handover.write(recipe, program, folder).prompts == 11
    examples = build(recipe.data).examples
    for row, example in zip(rows_of(folder, tmp_path), examples, strict=True):
        assert len(row["images"]) == len(example.images)
        assert all(same_picture(s, i.read()) for s, i in zip(row["images"], example.images, strict=True))
        [turn] = row["prompt"]
        if program == "trl":
            asked = [part["text"] for part in turn["content"] if part["type"] == "text"]
            assert ["image"] * len(example.images) == [p["type"] for p in turn["content"]][: len(example.images)]
            assert asked == [example.question]
            known = row["example"]
        else:
            assert turn["content"] == "<image>" * len(example.images) + example.question
            assert row["extra_info"] == {"split": "train", "index": examples.index(example), "id": example.id}
            known = row["reward_model"]["ground_truth"]
        again = module(folder).HANDED._example(known)
        assert (again.id, again.answers, again.expected) == (example.id, example.answers, example.expected)
        assert [i.read() for i in again.images] == [i.read() for i in example.images]
        assert str(tmp_path) not in known, "no path of this machine"


def handed(recipe: Recipe, tmp_path: Path, program: str) -> tuple[Any, dict[str, str]]:
    """The module, and what each program hands it of an example, by id."""
    folder = tmp_path / program
    handover.write(recipe, program, folder)
    of = (lambda r: r["example"]) if program == "trl" else (lambda r: r["reward_model"]["ground_truth"])
    return module(folder), {json.loads(of(row))["id"]: of(row) for row in rows_of(folder, tmp_path)}


def test_trl_is_told_what_answers_are_worth_here(make: MakeRecipe, tmp_path: Path) -> None:
    """Sampled answers, as TRL decodes them: some ended, some were cut off, and those lose what that costs."""
    recipe = make(
        "grpo", rewards=[LENGTH, RULE], samples=40, max_new_tokens=4, unfinished=0.5, temperature=3.0,
    )  # fmt: skip
    made = learner(recipe)
    samples = sampled(made)
    theirs, known = handed(recipe, tmp_path, "trl")
    tokenizer = made.run.codec.tokenizer
    said = tokenizer.batch_decode([list(s.ids) for s in samples], skip_special_tokens=True)
    logged: dict[str, float] = {}
    values = theirs.reward(
        completions=[[{"role": "assistant", "content": text}] for text in said],
        completion_ids=[list(s.ids) for s in samples],
        example=[known[s.rollout.example.id] for s in samples],
        log_metric=logged.__setitem__,
        images=[None] * len(samples),
    )
    worth = made.rewards([s.rollout for s in samples])
    assert {s.rollout.finished for s in samples} == {True, False}
    assert values == [one.total - (0.0 if s.rollout.finished else 0.5) for one, s in zip(worth, samples, strict=True)]  # pyright: ignore[reportOptionalOperand]
    assert logged["reward/length?per_token=0.25"] == pytest.approx(0.25 * np.mean([len(s.ids) for s in samples]))


def test_what_nobody_can_value_is_left_out_by_trl_and_refused_for_verl(make: MakeRecipe, tmp_path: Path) -> None:
    """The rule cannot say whether a row without references was answered rightly."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a", "prompt": "What?"}\n{"id": "b", "prompt": "What?", "answer": "No."}\n')
    recipe = make("grpo", rewards=[RULE], data={"mix": [{"source": f"jsonl:{file}"}]})
    theirs, known = handed(recipe, tmp_path, "trl")
    ends = list(theirs.HANDED.ends)
    both = [known["a"], known["b"]]
    assert theirs.reward(["No.", "No."], [[5, *ends], [5, *ends]], both) == [None, 3.0]
    other, told = handed(recipe, tmp_path, "verl")
    assert other.compute_score("vlmend", "No.", told["b"]) == 3.0
    with pytest.raises(StoreError, match=r"UNSCORED in reward\.py may be one"):
        other.compute_score("vlmend", "No.", told["a"])
    other.UNSCORED = -1.0
    assert other.compute_score("vlmend", "No.", told["a"]) == -1.0


def test_verl_tells_text_alone_so_that_its_tokens_are_counted(make: MakeRecipe, tmp_path: Path) -> None:
    """With its end token, or without one and as long as the limit: cut off."""
    recipe = make("grpo", rewards=[LENGTH], max_new_tokens=3, unfinished=10.0)
    theirs, known = handed(recipe, tmp_path, "verl")
    row, [end] = next(iter(known.values())), theirs.HANDED.ends.values()
    encode = theirs.HANDED._tokenizer.encode
    short = next(t for t in ("No.", "a", "A") if len(encode(t, add_special_tokens=False)) < 3)
    long = "A square ring."
    tokens = {text: len(encode(text, add_special_tokens=False)) for text in (short, long)}
    assert tokens[long] >= 3
    assert theirs.compute_score("vlmend", short, row) == 0.25 * (tokens[short] + 1)
    assert theirs.compute_score("vlmend", f"{long}{end}", row) == 0.25 * (tokens[long] + 1)
    assert theirs.compute_score("vlmend", long, row, {"id": "x"}) == 0.25 * (tokens[long] + 1) - 10.0


def test_answers_end_where_they_end_here(make: MakeRecipe, tmp_path: Path) -> None:
    recipe = make("rloo")
    handover.write(recipe, "trl", tmp_path / "out")
    codec = load(recipe.model).codec
    assert set(module(tmp_path / "out").HANDED.ends) == codec.eos_ids
    assert not (tmp_path / "out" / handover.SETTINGS).exists(), "GRPO's alone"


def test_settings_of_grpo_are_trls(make: MakeRecipe, tmp_path: Path) -> None:
    """Batches count answers there."""
    train = {"per_device_train_batch_size": 3, "learning_rate": 0.02, "max_steps": 5}
    recipe = make("grpo", std=False, loss_mean="token", kl=0.03, kl_kind="k2", clip_high=0.3, samples=6, train=train)
    written = handover.write(recipe, "trl", tmp_path / "out")
    found = json.loads((tmp_path / "out" / handover.SETTINGS).read_text())
    wanted = {
        "num_generations": 6, "per_device_train_batch_size": 18, "beta": 0.03, "epsilon": 0.2, "epsilon_high": 0.3,
        "loss_type": "dapo", "scale_rewards": "none", "max_completion_length": 6, "learning_rate": 0.02, "max_steps": 5,
    }  # fmt: skip
    assert wanted.items() <= found.items()
    assert any("TRL's KL is k3" in note for note in written.notes)


def test_what_cannot_be_handed_over_is_said(make: MakeRecipe, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="method sft samples no answers"):
        handover.write(make_recipe(), "trl", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"method\.costs"):
        handover.write(make("ppo", costs=["length"]), "verl", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"rewards\.0"):
        handover.write(make("grpo", rewards=["nonsense"]), "trl", tmp_path / "a")
    with pytest.raises(UnknownName, match="Did you mean 'trl'"):
        handover.write(make("grpo"), "tr", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    less = ["--set", "data.mix.0.n=5", "--set", "model.adapter=null"]
    assert main(["export", "rl", "world/rl_grpo", "--for", "verl", "--out", str(out), "--json", *less]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prompts"] == 5
    assert {path.name for path in out.iterdir()} == {"train.parquet", "images", "reward.py"}
    assert main(["export", "rl", "world/sft_biased", "--for", "trl", "--out", str(out)]) == 2
    assert "samples no answers" in capsys.readouterr().err
