"""Relearning: a few steps on a few examples, of what was to be kept or of what was to be forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vlmend.config import MixPart, Recipe
from vlmend.evaluate.tamper.subject import Subject
from vlmend.store import write_json
from vlmend.types import Example, Role


def pool(subject: Subject, role: Role, asked: Iterable[Example], seed: int) -> list[str]:
    """Ids of the examples of a role that may be learned again, shuffled: more of them always contain fewer.

    None is asked about later, under its id or as the same question about the same picture.
    """
    seen = {key for example in asked for key in (example.id, (example.question, example.cluster))}
    free = [e.id for e in subject.mix.examples if e.role is role and not {e.id, (e.question, e.cluster)} & seen]
    random.Random(f"tamper/{seed}").shuffle(free)
    return free


def recipe(subject: Subject, rows: Sequence[str], folder: Path, *, steps: int, rate: float, seed: int) -> Recipe:
    """Plain tuning of the run's own adapter, or of a new one on a whole model, on these rows and nothing else."""
    wanted = set(rows)
    taken = [
        (part, [row for row in told["rows"] if row in wanted])
        for part, told in zip(subject.recipe.data.mix, subject.mix.report["parts"], strict=True)
    ]
    taken = [(part, found) for part, found in taken if found]
    named = folder / "rows.json"
    write_json(named, {"parts": [{"source": part.source, "rows": found} for part, found in taken]})
    source = subject.recipe
    started = {"name": source.model.name, "adapter": str(subject.folder)} if subject.is_adapter else {
        "name": str(subject.folder), "adapter": None, "tune": "lora", "parameters": (),
        "train": ("language_model",),
    }  # fmt: skip
    parts = tuple(MixPart(source=part.source, where=part.where, role=Role.UTILITY) for part, _ in taken)
    train: dict[str, Any] = {
        "learning_rate": rate, "projector_learning_rate": None, "max_steps": steps,
        "per_device_train_batch_size": min(len(rows), 8),
        "gradient_accumulation_steps": 1, "lr_scheduler_type": "constant_with_warmup", "warmup_ratio": 0.0,
        "save_steps": 0, "seed": seed, "report_to": "none",
    }  # fmt: skip
    return source.model_copy(
        update={
            "model": source.model.model_copy(update=started),
            "method": type(source.method)(name="sft"),
            "data": source.data.model_copy(update={"mix": parts, "replay": named, "seed": seed}),
            "train": source.train.model_copy(update=train),
            "output": source.output.model_copy(update={"dir": folder / "tuned"}),
        }
    )
