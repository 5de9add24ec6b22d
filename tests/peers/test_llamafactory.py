"""LLaMA-Factory's own loader, templates and collators on what we write for it: tokens, labels, pixels, and one step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", DISABLE_VERSION_CHECK="1", FORCE_TORCHRUN="0")
pytest.importorskip("llamafactory", reason="LLaMA-Factory is not installed: make test-peers PEERS=llamafactory")

from llamafactory import data
from llamafactory.hparams import get_train_args
from llamafactory.model import load_model, load_tokenizer
from llamafactory.train.tuner import run_exp

from tests.peers.known import KNOWN, MODEL, NAMINGS, equal, pixels, written

FORMS = ("llamafactory", "llamafactory_table", "alpaca", "alpaca_table")
COLLATORS = {
    "sft": data.SFTDataCollatorWith4DAttentionMask,
    "dpo": data.PairwiseDataCollatorWithPadding,
    "kto": data.KTODataCollatorWithPadding,
}


def settings(file: Path, stage: str, out: Path, **more: Any) -> dict[str, Any]:
    """What a YAML of LLaMA-Factory would say: the name of the set is that of its entry in dataset_info.json."""
    (name,) = json.loads((file.parent / "dataset_info.json").read_text())
    return {
        "model_name_or_path": MODEL, "template": "qwen2_vl", "stage": stage, "do_train": True, "dataset": name,
        "dataset_dir": str(file.parent), "output_dir": str(out), "finetuning_type": "full", "cutoff_len": 4096,
        "freeze_vision_tower": True, "report_to": "none", "overwrite_cache": True, **more,
    }  # fmt: skip


def loaded(told: dict[str, Any], stage: str) -> tuple[Any, Any, Any]:
    """Rows as tokens, the collator for them, and the tokenizer."""
    model_args, data_args, training, finetuning, _ = get_train_args(told)
    both = load_tokenizer(model_args)
    template = data.get_template_and_fix_tokenizer(both["tokenizer"], data_args)
    kind = "rm" if stage == "dpo" else stage
    rows = data.get_dataset(template, model_args, data_args, training, stage=kind, **both)["train_dataset"]
    collator = COLLATORS[stage](
        template=template, model=load_model(both["tokenizer"], model_args, finetuning), padding="longest",
        label_pad_token_id=-100, **both,
    )  # fmt: skip
    return rows, collator, both["tokenizer"]


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "stage", "more"),
    [
        ("all", "sft", {}),
        ("last", "sft", {"mask_history": True}),
        ("text", "sft", {}),
        ("pairs", "dpo", {}),
        ("feedback", "kto", {}),
    ],
)
def test_rows(
    name: str, stage: str, more: dict[str, Any], form: str, naming: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # wherever it is started
    rows, collator, tokenizer = loaded(settings(written(form, naming, name), stage, tmp_path, **more), stage)
    break_ = tokenizer.encode("\n")[0]
    assert len(rows) == len(KNOWN[name])
    for side in ("chosen_", "rejected_") if stage == "dpo" else ("",):
        for row, known in zip(rows, KNOWN[name], strict=True):
            equal(row[f"{side}input_ids"], row[f"{side}labels"], known, side, break_=break_)
    if stage == "kto":
        assert rows["kto_tags"] == [known["label"] for known in KNOWN[name]]
    if shown := pixels(name):
        found = collator([dict(row) for row in rows])["pixel_values"].flatten().tolist()
        assert found == shown * (2 if stage == "dpo" else 1)


# No step of KTO: 0.9.5 gives Qwen2-VL no token types there, which its own transformers asks for.
@pytest.mark.parametrize(("name", "stage"), [("all", "sft"), ("pairs", "dpo")])
@pytest.mark.parametrize(("form", "naming"), [("llamafactory", "relative"), ("llamafactory_table", "embed")])
def test_a_step(name: str, stage: str, form: str, naming: str, tmp_path: Path) -> None:
    told = settings(written(form, naming, name), stage, tmp_path, max_steps=1, per_device_train_batch_size=8)
    run_exp({**told, "use_cpu": True, "save_strategy": "no", "overwrite_output_dir": True, "disable_tqdm": True})
    assert json.loads((tmp_path / "train_results.json").read_text())["train_loss"] > 0
