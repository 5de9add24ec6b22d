"""Which vision features a run keeps, of what size and where: decided before it starts, and shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal

from vlmend.config import SpeedConfig
from vlmend.data.batches import picture_groups
from vlmend.errors import StoreError
from vlmend.models.codec import Codec
from vlmend.models.features import Features, trains
from vlmend.models.kept import Memory, Shelf, raw
from vlmend.models.parts import Owner, count, owner
from vlmend.models.prompts import Prompt, bare, shown, taught
from vlmend.models.tower import Tower, tower_of, varies
from vlmend.rgb import RULES
from vlmend.store import room_for
from vlmend.train.precision import computing, says
from vlmend.types import Example, digest

OFF = "switched off"
MIB = 2**20
WORTH = 1e9  # operations of a tower on a picture; below, encoding examples one at a time costs more than it saves


@dataclass(frozen=True)
class Showing:
    """What a run shows: examples with pictures, and how often each of them, on average."""

    examples: Sequence[Example] = ()
    times: float = 1.0

    @cached_property
    def pictures(self) -> int:
        """How many different pictures (or groups of them that are shown together) there are."""
        return len(set(picture_groups(self.examples)))

    @property
    def looks(self) -> float:
        """How often each picture is looked at, on average."""
        return self.times * len(self.examples) / self.pictures if self.examples else 0.0


@dataclass(frozen=True)
class Keeping:
    """Features that keep something, or why they do not.

    ahead: it pays to encode examples one at a time for them, since a picture comes again in another pass and is still
    there then. about: what is shown before the run.
    """

    features: Features
    ahead: bool = False
    about: str = ""
    why: str = ""


def keep(
    speed: SpeedConfig, model: Any, codec: Codec, showing: Showing, autocast: torch.dtype | None = None
) -> Keeping:
    """What is kept of the pictures that a run shows. Raises StoreError when the disk has no room for it."""
    method = codec.family.features
    tower = tower_of(model)
    if why := _against(speed, model, tower, showing):
        return Keeping(Features(model, method, Memory(0)), why=why)
    first = taught(model, codec, showing.examples[0])[0]
    with computing(model.device, autocast):
        cut, each = _smallest(model, method, tower, first)
    total = each * showing.pictures
    size = f"features: of {showing.pictures:,} pictures, {decimal(each)} each, {decimal(total)} in all, "
    where = "what the vision tower gives" if cut else "what the projector gives"
    worth = 2 * count(model).total.get("vision_tower", 0) * first.pieces >= WORTH
    only = "" if worth else "; only in passes that share something, for the tower is small"
    if speed.features_dir is None:
        limit = speed.features_mb * MIB
        fits = total <= limit
        held = "" if fits else f", as many as fit into features_mb {speed.features_mb:,} (features_dir: all)"
        return Keeping(
            Features(model, method, Memory(limit), cut, alone=True),
            worth and fits,
            f"{size}{where}, in memory{held}{only}",
        )
    shelf = Shelf(speed.features_dir, identity(model, codec, cut, autocast))
    _check_room(speed.features_dir, shelf, each, showing)
    about = f"{size}{where}, in {speed.features_dir}, where {len(shelf):,} are{only}"
    return Keeping(Features(model, method, shelf, cut, alone=True), worth, about)


def _against(speed: SpeedConfig, model: Any, tower: Tower | None, showing: Showing) -> str:
    """Why nothing is kept; empty when something is."""
    if not speed.features:
        return OFF
    if not showing.examples:
        return "no picture is shown"
    if trains(model, "vision_tower"):
        return "the vision tower is trained"
    if trains(model, "projector") and tower is None:
        return "the projector is trained, and this model has no tower that ends before it"
    if varies(model):
        return "the vision tower drops out at random"
    if showing.looks <= 1 and speed.features_dir is None:
        return "no picture comes twice"
    return ""


def _smallest(model: Any, method: str, tower: Tower | None, shown: Prompt) -> tuple[Tower | None, int]:
    """Where to cut so that least is kept: after the tower, or (None) after the projector; and bytes per picture."""
    cuts: list[Tower | None] = [] if trains(model, "projector") else [None]
    sizes: list[tuple[int, Tower | None]] = []
    for cut in [*cuts, *([tower] if tower else [])]:
        memory = Memory(float("inf"))
        with torch.no_grad():
            Features(model, method, memory, cut)([shown])
        sizes.append((memory.held, cut))
    each, cut = min(sizes, key=lambda size: size[0])
    return cut, each


def _check_room(folder: Path, shelf: Shelf, each: int, showing: Showing) -> None:
    """Pictures are only hashed, to know which are there already, when that decides it."""
    free = room_for(folder, "speed.features_dir")
    if each * showing.pictures <= free:
        return
    new = set(map(shown, showing.examples))
    needed = each * sum(key not in shelf for key in new)
    if needed > free:
        raise StoreError(
            f"speed.features_dir {folder} has {decimal(free)} free, and the features of these pictures take "
            f"{decimal(needed)}; choose another folder, or leave them out with speed.features=false"
        )


def identity(model: Any, codec: Codec, cut: Tower | None, autocast: torch.dtype | None) -> str:
    """Of everything that decides which numbers come out for a picture."""
    core = bare(model)
    parts: tuple[Owner, ...] = ("vision_tower",) if cut else ("vision_tower", "projector")
    weights = hashlib.sha256()
    for name, tensor in chain(core.named_parameters(), core.named_buffers()):
        if owner(name) in parts:
            weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(raw(tensor))
    config = json.loads(core.config.to_json_string(use_diff=False))
    settings = {key: value for key, value in config.items() if key not in ("text_config", "_name_or_path")}
    how = (
        str(core.dtype), core.device.type, core.config._attn_implementation, says(autocast), cut is None,
        torch.__version__,
    )  # fmt: skip
    return digest(weights.hexdigest(), codec.fingerprint, settings, RULES, *map(str, how))
