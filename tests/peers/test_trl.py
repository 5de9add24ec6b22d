"""TRL's own trainers on what we write for them: tokens, labels and pixels of a batch, and one step."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-peers PEERS=trl")

import torch

from tests.peers.known import KNOWN, equal, pixels
from tests.peers.trainers import DPO, KTO, PARTED, SFT, WHOLE

pytest_plugins = ("tests.peers.trainers",)


def batch(trainer: Any, name: str) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of each row of the first batch, which is the whole set, shuffled."""
    found = next(iter(trainer.get_train_dataloader()))
    if "pixel_values" in found:
        assert sorted(found["pixel_values"].flatten().tolist()) == sorted(pixels(name))
    labels = found.get("labels")
    if labels is None:
        labels = torch.where(found["completion_mask"].bool(), found["input_ids"], -100)
    masks = found["attention_mask"].bool()
    return [
        (ids[mask].tolist(), row[mask].tolist())
        for ids, row, mask in zip(found["input_ids"], labels, masks, strict=True)
    ]


def row_of(ids: list[int], name: str, side: str = "") -> dict[str, Any]:
    (row,) = (row for row in KNOWN[name] if row[f"{side}ids"] == ids)
    return row


@pytest.mark.parametrize(("form", "naming"), WHOLE)
@pytest.mark.parametrize("name", ["all", "text"])
def test_whole_conversations_are_learned_as_here(made: Any, form: str, naming: str, name: str) -> None:
    trainer = made(SFT, form, naming, name, assistant_only_loss=True)
    rows = batch(trainer, name)
    assert len(rows) == len(KNOWN[name])
    for ids, labels in rows:
        equal(ids, labels, row_of(ids, name))
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize(("form", "naming"), PARTED)
def test_completions_are_learned_with_the_line_break_behind_them(
    made: Any, processor: Any, form: str, naming: str
) -> None:
    trainer = made(SFT, form, naming, "last")
    rows = batch(trainer, "last")
    assert len(rows) == len(KNOWN["last"])
    for ids, labels in rows:
        equal(ids, labels, row_of(ids, "last"), break_=break_of(processor))
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize(("form", "naming"), PARTED)
def test_both_sides_of_pairs(made: Any, processor: Any, form: str, naming: str) -> None:
    trainer = made(DPO, form, naming, "pairs")
    found = next(iter(trainer.get_train_dataloader()))
    assert sorted(found["pixel_values"].flatten().tolist()) == sorted(pixels("pairs") * 2)
    half = len(KNOWN["pairs"])
    for at, (ids, mask, said) in enumerate(
        zip(found["input_ids"], found["attention_mask"].bool(), found["completion_mask"].bool(), strict=True)
    ):
        side = "chosen_" if at < half else "rejected_"
        row = row_of(ids[mask].tolist(), "pairs", side)
        labels = torch.where(said, ids, -100)[mask].tolist()
        equal(ids[mask].tolist(), labels, row, side, break_=break_of(processor))
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize(("form", "naming"), PARTED)
def test_feedback(made: Any, processor: Any, form: str, naming: str) -> None:
    trainer = made(KTO, form, naming, "feedback")
    found = next(iter(trainer.get_train_dataloader()))
    assert sorted(found["pixel_values"].flatten().tolist()) == sorted(pixels("feedback"))
    for ids, mask, said, label in zip(
        found["input_ids"], found["attention_mask"].bool(), found["completion_mask"].bool(), found["label"], strict=True
    ):
        row = row_of(ids[mask].tolist(), "feedback")
        assert bool(label) is row["label"]
        labels = torch.where(said, ids, -100)[mask].tolist()
        equal(ids[mask].tolist(), labels, row, break_=break_of(processor))
    assert trainer.train().training_loss > 0


def break_of(processor: Any) -> int:
    return processor.tokenizer.encode("\n")[0]
