"""The mask report counts right, and planted mistakes in the labels are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.train.conftest import MakeRecipe, ready
from vlmend.errors import DataError
from vlmend.models.codec import Batch
from vlmend.ops.logprobs import IGNORE
from vlmend.train.loop import encode
from vlmend.train.mask_report import check_mask, mask_report


@pytest.fixture
def batch(make_recipe: MakeRecipe) -> Batch:
    """Examples of different lengths, so that there is padding."""
    return encode(ready(make_recipe(train={"per_device_train_batch_size": 8})), 0)[0].batch


def test_every_token_is_counted_once(batch: Batch) -> None:
    report = mask_report([batch, batch], lambda ids: str(list(ids)))
    assert report.tokens == 2 * batch.labels.numel()
    assert report.padding == 2 * int((batch.inputs["attention_mask"] == 0).sum()) > 0
    assert report.picture == 2 * 9 * sum(len(example.images) for example in batch.examples)
    assert report.answer == report.supervised == 2 * int((batch.labels != IGNORE).sum())
    assert report.examples == 2 * len(batch.examples)
    assert report.first_answer == str([i for i in batch.labels[0].tolist() if i != IGNORE])


def test_the_first_span_is_the_answer_and_its_end_token(make_recipe: MakeRecipe) -> None:
    run = ready(make_recipe())
    batch = encode(run, 0)[0].batch
    report = mask_report([batch], run.codec.tokenizer.decode)
    assert report.first_answer == batch.examples[0].answers[0] + "<|im_end|>"


@pytest.mark.parametrize("plant", ["picture", "padding", "first token", "differ", "empty"])
def test_a_planted_mistake_is_refused_by_name(batch: Batch, plant: str) -> None:
    check_mask(batch)
    labels, ids = batch.labels.clone(), batch.inputs["input_ids"]
    row = int((batch.inputs["attention_mask"] == 0).any(dim=1).nonzero()[0])
    match plant:
        case "picture":
            row = int(batch.image_mask.any(dim=1).nonzero()[0])
            place = int(batch.image_mask[row].nonzero()[0])
            labels[row, place] = ids[row, place]
        case "padding":
            labels[row, -1] = ids[row, -1]
        case "first token":
            labels[row, 0] = ids[row, 0]
        case "differ":
            place = int((labels[row] != IGNORE).nonzero()[0])
            labels[row, place] += 1
        case _:
            labels[row] = IGNORE
    with pytest.raises(DataError, match=batch.examples[row].id) as caught:
        check_mask(replace(batch, labels=labels))
    assert plant in str(caught.value)


def test_training_refuses_what_the_report_refuses(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ready(make_recipe())
    honest = run.codec.encode_training

    def everything(*args: object) -> Batch:
        batch = honest(*args)  # type: ignore[arg-type]
        return replace(batch, labels=torch.where(batch.image_mask, batch.inputs["input_ids"], batch.labels))

    monkeypatch.setattr(run.codec, "encode_training", everything)
    with pytest.raises(DataError, match="supervised picture tokens"):
        encode(run, 0)
