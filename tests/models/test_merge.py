"""A merged folder answers as base and adapter do, and is one that plain transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.models import tiny
from tests.models.test_load import logits, shaken
from vlmend.cli import main
from vlmend.config import ModelConfig
from vlmend.errors import StoreError, UsageError
from vlmend.models import load as loading
from vlmend.models.merge import merge, of_run
from vlmend.types import Example


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llava", tmp_path_factory.mktemp("merge"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the language model by LoRA, and of the projector as a whole."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("adapter")
    config = ModelConfig.model_validate({"name": str(base), "train": ["language_model", "projector"]})
    loading.save(shaken(loading.load(config, for_training=True)), folder)
    return folder


def test_a_merged_model_is_base_and_adapter_in_one(
    base: Path, adapter: Path, examples: list[Example], tmp_path: Path
) -> None:
    config = of_run(f"{base}+{adapter}")
    about = merge(config, tmp_path / "merged", "float32")
    assert about["weights"]
    codec = loading.load(config).codec
    tuned = logits(loading.load(config).model, codec, examples)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(logits(merged, codec, examples), tuned, atol=1e-6)
    plain = logits(loading.load(ModelConfig(name=str(base))).model, codec, examples)
    assert not torch.allclose(tuned, plain, atol=1e-2)
    AutoProcessor.from_pretrained(tmp_path / "merged")
    again = loading.load(ModelConfig(name=str(tmp_path / "merged")))
    assert torch.allclose(logits(again.model, again.codec, examples), tuned, atol=1e-6)
    assert not list(tmp_path.glob(".*"))


def test_peft_finds_the_class_that_an_adapter_is_for(base: Path, adapter: Path, examples: list[Example]) -> None:
    found = AutoPeftModel.from_pretrained(str(adapter)).eval()
    assert type(found.get_base_model()).__name__ == "LlavaForConditionalGeneration"
    loaded = loading.load(ModelConfig(name=str(base), adapter=str(adapter)))
    assert torch.allclose(
        logits(found, loaded.codec, examples), logits(loaded.model, loaded.codec, examples), atol=1e-5
    )


def test_what_is_written_in_less_than_float32_is_said(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "half"
    assert main(["merge", f"{base}+{adapter}", "--out", str(out), "--dtype", "bfloat16", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["dtype"] == "bfloat16"
    assert "some answers may differ" in shown.err
    assert AutoModelForImageTextToText.from_pretrained(out).dtype == torch.bfloat16
    assert main(["merge", f"{base}+{adapter}", "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_what_cannot_be_merged_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no adapter"):
        of_run(str(base.name))
    with pytest.raises(UsageError, match=r"no finished tuning run.*BASE\+ADAPTER"):
        of_run(str(base))
    (tmp_path / "recipe.yaml").write_text(
        f"model: {{name: {base}, tune: full}}\ndata: {{mix: [{{source: world:safety}}]}}\noutput: {{dir: {tmp_path}}}\n"
    )
    with pytest.raises(UsageError, match="tuned in full"):
        of_run(str(tmp_path))
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(StoreError, match="not empty"):
        merge(ModelConfig(name=str(base)), full)
