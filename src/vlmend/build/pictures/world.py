"""Drawn pictures of the embedded world: by turns one with a hazard and one without, and what each shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmend.build.picture import Picture, kept
from vlmend.errors import ConfigError
from vlmend.world import items
from vlmend.world import language as say
from vlmend.world.items import Rule
from vlmend.world.scenes import Split, png


@dataclass(frozen=True)
class World:
    """`world:N?seed=0&split=train`; `n` changes no picture.

    meta: `shows` lists the things as `color kind at place`, `kinds` their kinds, `hazards` the hazards among them.
    """

    n: int
    seed: int = 0
    split: Split = "train"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"pictures 'world': n must be at least 1 (got {self.n})")
        if self.seed < 0:
            raise ConfigError(f"pictures 'world': seed must be at least 0 (got {self.seed})")

    def pictures(self, folder: Path) -> Iterator[Picture]:
        """Drawn when their turn comes, and kept as PNG files."""
        for number in range(self.n):
            rng = np.random.default_rng([self.seed, self.split == "test", number])
            rule = Rule.NONE if number % 2 else Rule.PICTURE
            scene = items.draw(rng, "describe", say.NEUTRAL, rule, self.split).scenes[0]
            about = {
                "shows": say.describe(scene),
                "kinds": " ".join(icon.kind for icon in scene.icons),
                "hazards": " ".join(scene.hazards),
            }
            image = kept(png(scene, int(rng.integers(2**31))), folder, drawn=True)
            yield Picture(f"world/{self.split}/{self.seed}/{number}", image, about)


plugin = World
