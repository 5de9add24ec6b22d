"""Pictures that an image generator paints of prompts, one a line of a text file, each painted once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow

from vlmend.build.painting import OpenaiPainter, Sketch, lines_of, painted
from vlmend.build.picture import Picture
from vlmend.data.notices import notice
from vlmend.errors import ConfigError, ModelError
from vlmend.terminal import plural
from vlmend.types import Image, digest


@dataclass(frozen=True)
class Painted:
    """`painted:PROMPTS.txt?painter=NAME@URL&each=1&seed=0`: `each` pictures of every prompt, with seeds from `seed` on.

    Other settings are those of the painter. What is refused or fails is counted and said.
    """

    prompts: Path
    painter: str
    each: int = 1
    seed: int = 0
    size: str = ""
    extra: str = ""
    key_env: str = ""
    window: int = 8
    budget: str = ""
    prices: Path | None = None

    def __post_init__(self) -> None:
        if self.each < 1:
            raise ConfigError(f"pictures 'painted': each must be at least 1 (got {self.each})")

    def pictures(self, folder: Path) -> Iterator[Picture]:
        """In the order of the prompts, once all are painted that can be."""
        painter, sketches = self._painter(), self._sketches()
        made = dict(painted(painter, sketches, folder))
        failed = [(sketch, why) for sketch, why in made.items() if isinstance(why, str)]
        if failed:
            first = f"first {failed[0][0].prompt!r}: {failed[0][1]}"
            if len(failed) == len(sketches):
                raise ModelError(f"{self.painter} painted nothing; {first}")
            notice(self.prompts, f"{plural(len(failed), 'picture')} of {len(sketches):,} not painted; {first}")
        for sketch in sketches:
            image = made.get(sketch)
            if image is not None and not isinstance(image, str):
                yield _picture(painter, sketch, image)

    def stand_ins(self) -> Iterator[Picture]:
        """A gray picture for each, and a word on what is not in any estimate."""
        painter, sketches = self._painter(), self._sketches()
        notice(self.prompts, f"{plural(len(sketches), 'picture')} to be painted, whose price is in no estimate")
        for sketch in sketches:
            yield _picture(painter, sketch, Image(make=_gray))

    def _painter(self) -> OpenaiPainter:
        return OpenaiPainter(
            self.painter, self.size, self.extra, self.key_env, self.window, budget=self.budget, prices=self.prices
        )

    def _sketches(self) -> list[Sketch]:
        prompts = dict.fromkeys(lines_of(self.prompts))
        return [Sketch(prompt, self.seed + turn) for prompt in prompts for turn in range(self.each)]


plugin = Painted


def _picture(painter: OpenaiPainter, sketch: Sketch, image: Image) -> Picture:
    name = f"painted/{digest(painter.fingerprint, sketch.prompt, sketch.seed)[:16]}"
    return Picture(name, image, {"prompt": sketch.prompt, "seed": str(sketch.seed)})


def _gray() -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (1024, 1024), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()
