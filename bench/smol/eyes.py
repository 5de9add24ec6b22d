"""The projector's first stage, by regression: what is in a cell of a picture, as a mean of word embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from smol.language import meaning
from vlmend.world.scenes import COLORS, GRID, KINDS, PLACES, Scene, Split, draw_scene, render
from vlmend.world.train import pixels_of

PICTURES, HELD_OUT = 2000, 200
STEPS, BATCH, RATE = 1200, 512, 2e-3
PLACE = 0.7  # weight of where a cell is, beside what is in it
EMPTY = "empty"


def draw(rng: np.random.Generator, n: int, split: Split) -> list[Scene]:
    """Scenes of one to nine things of any kind."""
    crowds = [rng.integers(len(KINDS), size=int(rng.integers(1, GRID * GRID + 1))) for _ in range(n)]
    return [draw_scene(rng, [KINDS[k] for k in crowd], split) for crowd in crowds]


def targets(scenes: list[Scene], model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> Tensor:
    """(N, 9, d) what each cell should say: its color, its kind and, with less weight, its place."""
    words = {word: meaning(model, processor, word) for word in (*COLORS, *KINDS, *PLACES, EMPTY)}
    rows: list[Tensor] = []
    for scene in scenes:
        shown = {icon.cell: words[icon.color] + words[icon.kind] for icon in scene.icons}
        rows.append(torch.stack([shown.get(i, words[EMPTY]) + PLACE * words[place] for i, place in enumerate(PLACES)]))
    return torch.stack(rows)


@torch.no_grad()
def cells(scenes: list[Scene], model: LlavaForConditionalGeneration, rng: np.random.Generator) -> Tensor:
    """(N, 9, v) what the tower makes of the scenes' cells."""
    pictures = [render(scene, int(rng.integers(2**31))) for scene in scenes]
    tower, layer = model.model.vision_tower, model.config.vision_feature_layer
    parts = [
        tower(pixels_of(pictures[i : i + 100]), output_hidden_states=True).hidden_states[layer][:, 1:]
        for i in range(0, len(pictures), 100)
    ]
    return torch.cat(parts)


def fit(model: LlavaForConditionalGeneration, processor: LlavaProcessor, seed: int = 0) -> float:
    """Fit the model's projector; the relative squared error on held-out scenes."""
    rng = np.random.default_rng([seed, 30])
    torch.manual_seed(seed)
    seen = draw(rng, PICTURES, "train"), draw(rng, HELD_OUT, "test")
    (x, x_test), (y, y_test) = ([f(scenes) for scenes in seen] for f in (
        lambda scenes: cells(scenes, model, rng).flatten(0, 1),
        lambda scenes: targets(scenes, model, processor).flatten(0, 1),
    ))  # fmt: skip
    projector = model.model.multi_modal_projector
    optimizer = torch.optim.Adam(projector.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = torch.from_numpy(rng.integers(len(x), size=BATCH))
        loss = F.mse_loss(projector(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = (projector(x_test) - y_test).square().mean() / (y_test - y_test.mean(0)).square().mean()
    return error.item()
