"""Preference methods through whole runs: feedback without pairs, the step's reference point, the command's refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from tests.train.conftest import ready
from vlmend.config import Recipe, parse_recipe
from vlmend.errors import ConfigError, DataError
from vlmend.train.loop import Tuning, accumulate, encode, take_step
from vlmend.train.reference import Live
from vlmend.train.run import tune
from vlmend.train.scoring import count_totals
from vlmend.types import Role

ANSWERS = ("Yes.", "It is a red ring.", "No, and I will not say.", "Two.", "A star, on the left.", "None.")
Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def make(base: Path, pictures: Path, tmp_path: Path) -> Make:
    """A recipe on rows: `make("kto", rows, method={…}, part={…}, **train)`."""

    def recipe(
        name: str, rows: list[dict[str, Any]], method: dict[str, Any] | None = None,
        part: dict[str, Any] | None = None, **train: Any,
    ) -> Recipe:  # fmt: skip
        file = pictures / f"{tmp_path.name}-{len(list(pictures.glob('*.jsonl')))}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        steps = {"learning_rate": 0.01, "max_steps": 2, "per_device_train_batch_size": 6, "logging_steps": 1}
        return parse_recipe(
            {
                "model": {"name": str(base), "device": "cpu", "lora": {"r": 4, "lora_alpha": 8}},
                "method": {"name": name, **(method or {})},
                "data": {"mix": [{"source": f"jsonl:{file}", **(part or {})}]},
                "train": {**steps, **train},
                "output": {"dir": str(tmp_path / name)},
            }
        )

    return recipe


FEEDBACK: list[dict[str, Any]] = [
    {"id": f"r{i}", "prompt": f"What {i}?", "completion": said, "label": i % 2 == 0, "images": [f"{i % 4}.png"]}
    for i, said in enumerate(ANSWERS)
]


def started(recipe: Recipe) -> Tuning:
    """At its first step, moved off its reference to where the answers are likelier: the mean ratio is above 0."""
    run = ready(recipe)
    run.reference = Live(run.before, {})
    window = encode(run, 0)
    totals = count_totals(window, run.team)
    for micro in window:
        scored = run.forward(micro, totals)
        scored.example_mean(scored.answer_logps).backward()
    with torch.no_grad():
        for parameter in run.trained.values():
            if parameter.grad is not None:
                parameter.add_(0.5 * parameter.grad)
            parameter.grad = None
    return run


def gradient(run: Tuning) -> tuple[torch.Tensor, float]:
    values = accumulate(run, encode(run, 0))
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in run.trained.values()]
    return torch.cat([g.flatten() for g in grads]).double(), values["loss"]


def test_rows_with_labels_are_what_it_learns_from(make: Make) -> None:
    run = ready(make("kto", FEEDBACK))
    roles = {e.id: (e.role, e.answers[0]) for e in run.examples}
    assert {name: role for name, (role, _) in roles.items()} == {
        f"r{i}": Role.UTILITY if i % 2 == 0 else Role.FORGET for i in range(6)
    }
    assert [roles[f"r{i}"][1] for i in range(6)] == list(ANSWERS)
    assert not any(e.avoid for e in run.examples)


def test_the_reference_point_is_the_whole_steps(make: Make) -> None:
    """Passes of one example each give the gradient of one pass of six, where each by itself would have its own."""
    whole, loss = gradient(started(make("kto", FEEDBACK, {"beta": 2.0})))
    apart = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6}
    cut, again = gradient(started(make("kto", FEEDBACK, {"beta": 2.0}, **apart)))
    assert (whole - cut).norm() <= 1e-5 * whole.norm()
    assert loss == pytest.approx(again, rel=1e-5)
    flat, _ = gradient(started(make("kto", FEEDBACK, {"beta": 2.0, "reference_point": "zero"})))
    assert (whole - flat).norm() > 1e-2 * whole.norm()


def test_it_runs_and_pairs_will_do_as_well(make: Make) -> None:
    outcome = tune(make("kto", FEEDBACK, num_train_epochs=2))
    assert outcome.steps == 2
    pairs = [{"prompt": f"{i}?", "chosen": "Yes.", "rejected": "Never.", "images": ["0.png"]} for i in range(4)]
    roles = [e.role for e in ready(make("kto", pairs)).examples]
    assert sorted(roles) == [Role.FORGET] * 4 + [Role.SAFETY] * 4


def test_one_kind_of_answer_alone_is_refused(make: Make) -> None:
    for kept, lacking in ((0, "forget"), (1, "safety or utility or retain")):
        with pytest.raises(ConfigError, match=f"needs examples of the role {lacking}"):
            ready(make("kto", FEEDBACK[kept::2]))


def test_a_method_that_learns_answers_names_the_one_that_takes_feedback(make: Make) -> None:
    with pytest.raises(DataError, match=r"a method that learns from feedback \(kto\)"):
        ready(make("sft", FEEDBACK))


PAIRS: list[dict[str, Any]] = [
    {"id": f"p{i}", "prompt": f"What {i}?", "chosen": ANSWERS[i], "rejected": "Never.", "images": [f"{i % 4}.png"]}
    for i in range(6)
]


def test_picture_negatives_stand_beside_their_pairs(make: Make) -> None:
    """As rows of their own, which teach nothing of how likely the answer is by itself: its words are on both sides."""
    plain, run = (ready(make("dpo", PAIRS, {"picture_negatives": on}, {"weight": 0.5})) for on in (False, True))
    assert (len(plain.examples), len(run.examples)) == (12, 24)
    assert plain.plan.rows_per_epoch * 2 == run.plan.rows_per_epoch == 12
    assert set(run.weights) == {0.5}
    rows = [[run.examples[i] for i in row] for step in range(2) for row in run.plan.step(step)]
    apart = [row for row in rows if row[0].answers == row[1].answers]
    assert len(apart) == 6
    assert all(rejected.images != chosen.images for rejected, chosen in apart)


def test_with_them_the_picture_comes_to_matter(make: Make) -> None:
    """How much likelier the chosen answers are about their own picture than about another grows."""
    recipe = make("dpo", PAIRS, {"picture_negatives": True, "beta": 20.0})
    run = ready(recipe)
    run.reference = Live(run.before, {})

    def gap() -> float:
        both = {True: 0.0, False: 0.0}
        for micro in (m for step in range(2) for m in encode(run, step)):
            with torch.no_grad():
                scored = run.forward(micro, count_totals([micro], run.team))
            for example, value in zip(micro.batch.examples, scored.answer_logps.tolist(), strict=True):
                if example.id.endswith("picture"):
                    both[example.role is Role.SAFETY] += value
        return both[True] - both[False]

    before = gap()
    for step in range(30):
        take_step(run, encode(run, step))
    assert gap() > before + 0.1
