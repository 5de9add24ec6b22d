"""A head of one number on a model's last hidden states: what an answer is worth, or what it would cost.

It is trained beside an adapter or a model, is always held and computed in fp32, and lies beside the weights that it
goes with: `head.safetensors`, and `head.json` says what it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from vlmend.errors import ModelError
from vlmend.models.prompts import bare
from vlmend.models.weights import read_tensors

WEIGHTS, ABOUT = "head.safetensors", "head.json"


@dataclass(frozen=True)
class About:
    """What a saved head is.

    `kind` is the method that trained it, `base` the model's name as its recipe had it, `adapted` whether what lies
    beside it is an adapter on that, and `places` where it was trained to look.
    """

    kind: str
    base: str
    adapted: bool
    places: str = "end"


def new(model: Any, numbers: int = 1) -> nn.Linear:
    """So many numbers for each hidden state (…, d), 0 at first: nothing is preferred before anything is learned."""
    width: int = bare(model).get_output_embeddings().weight.shape[1]
    head = nn.Linear(width, numbers, device=model.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def save(head: nn.Module, about: About, folder: Path) -> None:
    """Write a head and what it is."""
    save_file({name: p.detach().cpu().contiguous() for name, p in head.state_dict().items()}, folder / WEIGHTS)
    (folder / ABOUT).write_text(json.dumps(asdict(about)) + "\n", encoding="utf-8")


def describe(folder: Path) -> About:
    """What the head in a folder is. Raises ModelError where there is none."""
    path = folder / ABOUT
    try:
        return About(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        what = "holds no reward or cost model" if folder.is_dir() else "does not exist"
        raise ModelError(f"{folder} {what}: there is no {ABOUT}, which method reward or cost writes") from error
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged") from error


def restore(model: Any, folder: Path) -> nn.Linear:
    """The head that was saved in a folder. Raises ModelError where it does not fit the model."""
    head, saved = new(model), read_tensors(folder / WEIGHTS)
    try:
        head.load_state_dict(saved)
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit: it is no head for {head.in_features} numbers") from error
    return head.requires_grad_(False)
