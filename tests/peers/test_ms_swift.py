"""ms-swift's own loader, templates and collators on what we write for it: tokens, labels, pixels, and one step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", USE_HF="1")
pytest.importorskip("swift", reason="ms-swift is not installed: make test-peers PEERS=ms_swift")

import torch
from swift.dataset import load_dataset
from swift.model import get_model_processor
from swift.template import get_template

from tests.peers.known import KNOWN, MODEL, NAMINGS, equal, pixels, written

MODES = {"pairs": "rlhf", "feedback": "kto"}


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    return get_model_processor(MODEL, model_type="qwen2_vl", torch_dtype=torch.float32)


def template_of(both: tuple[Any, Any], mode: str) -> Any:
    model, processor = both
    template = get_template(processor, template_type="qwen2_vl", max_length=4096)
    template.set_mode(mode)
    template.model = model
    # its template has the number of the real vocabulary
    template.image_token_id = image_id(both)
    return template


def image_id(both: tuple[Any, Any]) -> int:
    return both[1].tokenizer.convert_tokens_to_ids("<|image_pad|>")


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("form", ["swift", "swift_table"])
@pytest.mark.parametrize("name", ["all", "last", "some", "text", "pairs", "feedback"])
def test_rows(
    name: str, form: str, naming: str, both: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(form, naming, name)
    monkeypatch.chdir(tmp_path)  # wherever it is started
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    if naming == "relative":
        monkeypatch.setenv("ROOT_IMAGE_DIR", str(file.parent))
    rows, _ = load_dataset([str(file)], split_dataset_ratio=0, strict=True, load_from_cache_file=False)
    assert len(rows) == len(KNOWN[name])
    template = template_of(both, MODES.get(name, "train"))
    break_ = both[1].tokenizer.encode("\n")[0]
    shown: list[float] = []
    for row, known in zip(rows, KNOWN[name], strict=True):
        found = template.data_collator([template.encode(dict(row))])
        found = {key.removeprefix("completion_"): value for key, value in found.items()}
        for at, side in enumerate(("chosen_", "rejected_") if name == "pairs" else ("",)):
            mask = found["attention_mask"][at].bool()
            equal(found["input_ids"][at][mask].tolist(), found["labels"][at][mask].tolist(), known, side, break_=break_)
        if name == "feedback":
            assert bool(found["label"][0]) is known["label"]
        if "pixel_values" in found:
            own = found["pixel_values"].flatten().tolist()
            shown += own[: len(own) // 2] if name == "pairs" else own
    assert shown == pixels(name)


@pytest.mark.parametrize("name", ["all", "pairs", "feedback"])
def test_a_step(name: str, both: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from swift.pipelines import rlhf_main, sft_main

    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(type(template_of(both, "train")), "image_token_id", image_id(both))
    words = ["--model", MODEL, "--model_type", "qwen2_vl", "--template", "qwen2_vl", "--torch_dtype", "float32"]
    words += ["--dataset", str(written("swift", "absolute", name)), "--tuner_type", "full", "--max_steps", "1"]
    words += ["--per_device_train_batch_size", "8", "--output_dir", str(tmp_path), "--save_strategy", "no"]
    words += ["--use_cpu", "true", "--split_dataset_ratio", "0", "--report_to", "none", "--max_length", "4096"]
    words += ["--gradient_accumulation_steps", "1"]
    kind = {"pairs": ["--rlhf_type", "dpo"], "feedback": ["--rlhf_type", "kto"]}.get(name, [])
    told = (rlhf_main if kind else sft_main)([*kind, *words])
    losses = [entry["train_loss"] for entry in told["log_history"] if "train_loss" in entry]
    assert losses
    assert losses[0] > 0
