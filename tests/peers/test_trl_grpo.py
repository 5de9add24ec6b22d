"""TRL's GRPOTrainer on the prompts and rewards of a recipe: a step with pictures, and what its answers are worth."""

from __future__ import annotations

import importlib.util
import io
import json
import runpy
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-peers PEERS=trl")

import numpy as np
import torch
from datasets import load_dataset
from PIL import Image as Pictures
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.peers.known import FOLDER, MODEL
from vlmend.config import DataConfig, MixPart
from vlmend.data.mix import build as build_mix
from vlmend.rewards import build
from vlmend.types import Example, Rollout

REWARDS = [{"reward": "length?per_token=0.01"}, {"reward": "rule?finished=false", "weight": 2.0}]


def module(folder: Path) -> ModuleType:
    """The folder's `reward.py`."""
    spec = importlib.util.spec_from_file_location("reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def examples(kind: str) -> dict[str, Example]:
    rows = DataConfig(mix=(MixPart(source=f"jsonl:{FOLDER / 'online' / kind / 'rows.jsonl'}?allow_outside=true"),))
    return {e.id: e for e in build_mix(rows).examples}


@pytest.mark.parametrize("kind", ["pictures", "words"])
def test_a_step_of_grpo_gets_the_rewards_that_answers_get_here(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, processor = FOLDER / "online" / kind / "trl", AutoProcessor.from_pretrained(MODEL)
    theirs = module(folder)
    heard: list[dict[str, Any]] = []

    def reward(prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
        values = theirs.reward(completions, **columns)
        heard.append({**columns, "completions": completions, "values": values})
        return values

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "reward", SimpleNamespace(reward=reward))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = runpy.run_path(str(folder / "train.py"))["trainer"]
    before = AutoModelForImageTextToText.from_pretrained(MODEL).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    known, [told] = examples(kind), heard
    assert len(told["values"]) == 4 * len(known)
    ends = {processor.tokenizer.eos_token_id, *np.atleast_1d(trainer.model.generation_config.eos_token_id).tolist()}
    rollouts = [
        Rollout(
            known[json.loads(row)["id"]],
            processor.tokenizer.decode(ids, skip_special_tokens=True).strip(),
            len(ids),
            ids[-1] in ends,
        )
        for ids, row in zip(told["completion_ids"], told["example"], strict=True)
    ]
    worth = [
        None if one.total is None else one.total - (0.0 if r.finished else 0.5)
        for one, r in zip(build(REWARDS)(rollouts), rollouts, strict=True)
    ]
    assert told["values"] == worth
    assert [value is None for value in worth] == [r.example.id == "unknown" for r in rollouts]
    assert len(set(worth)) > 2
    scored = [value for value in worth if value is not None]
    [entry] = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert entry["reward"] == pytest.approx(float(np.mean(scored)), rel=1e-4)
    assert entry["reward/length?per_token=0.01"] == pytest.approx(
        0.01 * np.mean([r.tokens for r in rollouts]), rel=1e-4
    )
    for shown, rollout in zip(told["images"], rollouts, strict=True):
        pixels = [
            np.asarray(Pictures.open(io.BytesIO(image.read())).convert("RGB")) for image in rollout.example.images
        ]
        assert all(np.array_equal(np.asarray(a.convert("RGB")), b) for a, b in zip(shown, pixels, strict=True))


def test_rows_for_verl_are_in_its_layout_and_worth_the_same(tmp_path: Path) -> None:
    """As its documentation has it; verl itself is not run."""
    folder, known = FOLDER / "online" / "pictures" / "verl", examples("pictures")
    score = module(folder).compute_score
    rows = load_dataset(
        "parquet", data_files=str(folder / "train.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    for row in rows:
        example = known[row["extra_info"]["id"]]
        assert set(row) == {"data_source", "prompt", "images", "ability", "reward_model", "extra_info"}
        assert sum(turn["content"].count("<image>") for turn in row["prompt"]) == len(row["images"])
        assert [turn["role"] for turn in row["prompt"]] == [m.role for m in example.prompt]
        asked = (row["data_source"], "It is single.<|im_end|>", row["reward_model"]["ground_truth"], row["extra_info"])
        if example.id == "unknown":
            with pytest.raises(RuntimeError, match="verl takes numbers alone"):
                score(*asked)
        else:
            tokens = score.__globals__["HANDED"]._tokenizer("It is single.").input_ids
            assert score(*asked) == pytest.approx(0.01 * (len(tokens) + 1) + 2.0 * (example.id == "single"))
