"""Train a judge from one of transformers' encoders: a small loop, the model and its tokenizer saved as safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmend.errors import ModelError
from vlmend.metrics.textclass import Description, Floats, softmax, text_of, write_description
from vlmend.types import digest

if TYPE_CHECKING:
    from vlmend.judge.labels import Labeled
    from vlmend.judge.train import Task

BATCH = 16
LEARNING_RATE = 5e-5
CALIBRATION = 5  # one cluster in so many sets the temperature, and is not trained on


def train_encoder(found: Task, name: str, out: Path, *, seed: int, epochs: int) -> Description:
    """AdamW at 5e-5, linearly to 0; temperature from one cluster in five of the training rows."""
    import torch

    from vlmend.judge.train import cluster, fit_temperature, held_out_score

    torch.manual_seed(seed)  # before loading: the head is drawn there
    model, tokenizer = _load(name, found.labels)
    aside = [row for row in found.train if int(digest(cluster(row)), 16) % CALIBRATION == 0]
    rows = [row for row in found.train if row not in aside]
    _optimize(found, model, tokenizer, rows, epochs)

    def logits(asked: Sequence[tuple[str, str]]) -> Floats:
        return _logits(model, tokenizer, [text_of(q, a, found.input) for q, a in asked])

    said = logits([(row.question, row.answer or "") for row in aside])
    temperature = fit_temperature(said, np.array([found.index(row) for row in aside])) if aside else 1.0
    score = held_out_score(found, lambda asked: softmax(logits(asked) / temperature))
    about = found.describe("encoder", temperature, score)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_description(out, about)
    return about


def _load(name: str, labels: Sequence[str]) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    names = dict(enumerate(labels))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, id2label=names, label2id={label: i for i, label in names.items()}, num_labels=len(labels)
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"encoder {name!r} does not load: {error}") from error
    return model, tokenizer


def _optimize(found: Task, model: Any, tokenizer: Any, rows: Sequence[Labeled], epochs: int) -> None:
    import torch

    texts = [text_of(row.question, row.answer or "", found.input) for row in rows]
    gold = torch.tensor([found.index(row) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    for _ in range(epochs):
        for places in torch.randperm(len(rows)).split(BATCH):
            batch = _encode(tokenizer, [texts[int(i)] for i in places])
            loss = torch.nn.functional.cross_entropy(model(**batch).logits.float(), gold[places])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()


def _logits(model: Any, tokenizer: Any, texts: Sequence[str]) -> Floats:
    import torch

    rows: list[Any] = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            rows.append(model(**_encode(tokenizer, list(texts[start : start + BATCH]))).logits.double().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, model.config.num_labels))


def _encode(tokenizer: Any, texts: list[str]) -> Any:
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
