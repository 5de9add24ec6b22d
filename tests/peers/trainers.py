"""Builds trainers of TRL on exports of ours: a plug-in of the tests that need them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trl
from datasets import load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.peers.known import MODEL, NAMINGS, pixels, written

SFT, DPO, KTO = (trl.SFTTrainer, trl.SFTConfig), (trl.DPOTrainer, trl.DPOConfig), (trl.KTOTrainer, trl.KTOConfig)
WHOLE = [(form, naming) for form in ("trl_messages", "trl_messages_table") for naming in NAMINGS]
PARTED = [(form, naming) for form in ("trl", "trl_table") for naming in NAMINGS]
# Parquet with names relative to it holds no pictures for `datasets`: there the page says --absolute or --embed.
TABLES = {("trl_table", "relative"), ("trl_messages_table", "relative")}


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(MODEL)


@pytest.fixture
def made(processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Builds a trainer on an export, in the folder of the rows where pictures are named from there."""

    def make(kind: tuple[Any, Any], form: str, naming: str, name: str, **settings: Any) -> Any:
        if (form, naming) in TABLES and pixels(name):
            pytest.skip("not meant: parquet with relative names")
        file = written(form, naming, name)
        rows = load_dataset(
            "parquet" if file.suffix == ".parquet" else "json",
            data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"),
        )  # fmt: skip
        if naming == "relative":
            monkeypatch.chdir(file.parent)
        trainer, config = kind
        return trainer(
            model=AutoModelForImageTextToText.from_pretrained(MODEL),
            args=config(
                output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=8, use_cpu=True,
                report_to="none", save_strategy="no", disable_tqdm=True, **settings,
            ),
            train_dataset=rows, processing_class=processor,
        )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield make
