"""Show pictures as a camera, the weather or a codec may spoil them: noise, blur, fog, snow, contrast, JPEG and more."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vlmend.attacks import PICTURES, repictured, variants
from vlmend.drawing import png
from vlmend.errors import ConfigError, UnknownName
from vlmend.types import Example, Image, digest

if TYPE_CHECKING:
    import numpy as np

    Pixels = np.ndarray[Any, np.dtype[np.float64]]  # (height, width, 3), 0 to 1

SIDE = 224  # pixels of the shorter side that the published strengths of blurs and weather are meant for

# Strengths of severities 1 to 5, as published for ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).
STRENGTHS: dict[str, Sequence[Any]] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "shot_noise": (60, 25, 12, 5, 3),  # photons of full white
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of values
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),  # standard deviation, relative
    "gaussian_blur": (1, 2, 3, 4, 6),  # standard deviation in pixels
    "defocus_blur": (3, 4, 6, 8, 10),  # radius in pixels
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # length and standard deviation in pixels
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),  # up to, in steps of
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),  # density, and how fast small clouds fade
    # mean, deviation, zoom and threshold of flakes, length and deviation of their fall, share of the picture
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of hue, saturation, value
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # share of the distance from the mean that is left
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),  # factor and summand of the saturation
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # share of the sides
    "jpeg": (25, 18, 15, 10, 7),  # quality
}  # fmt: skip


@dataclass(frozen=True)
class Corruption:
    """`corruption:KIND?severity=1..5`; several severities or kinds (or `all`), with commas, make as many variants.

    Kinds and their strengths are ImageNet-C's, which are for pictures of 224 pixels: lengths in pixels grow with the
    shorter side, so that a larger picture looks as spoilt. Left out: frost and spatter, which need photographs, glass
    and elastic, which move what is shown. Noise is drawn from `seed` and the picture, so that one picture always gets
    the same. Words, and the number, places and sizes of the pictures stay.
    """

    kind: str = "gaussian_noise"
    severity: str = "3"
    seed: int = 0

    changes = PICTURES

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in STRENGTHS:
                raise UnknownName("corruption", kind, STRENGTHS)
        if not all(level in ("1", "2", "3", "4", "5") for level in self.levels):
            raise ConfigError(f"attack corruption: severity is 1 to 5, or several as in 1,3,5, not {self.severity!r}")

    @property
    def kinds(self) -> list[str]:
        """What is done to pictures, each in a variant of its own."""
        return list(STRENGTHS) if self.kind == "all" else [kind.strip() for kind in self.kind.split(",")]

    @property
    def levels(self) -> list[str]:
        """How strongly."""
        return [level.strip() for level in self.severity.split(",")]

    def __call__(self, example: Example) -> Example | Sequence[Example]:
        """The example with every picture spoilt, once for each kind and severity."""
        return variants(
            {
                f"{kind}-{level}": repictured(example, partial(self._spoilt, kind, int(level)))
                for kind in self.kinds
                for level in self.levels
            }
        )

    def _spoilt(self, kind: str, level: int, number: int, picture: Image) -> Image:
        del number
        return Image(make=partial(spoil, picture, kind, level, self.seed))


def spoil(picture: Image, kind: str, severity: int, seed: int = 0) -> bytes:
    """A PNG file of the picture, corrupted. Raises DataError when the picture cannot be read."""
    import numpy as np
    from PIL import Image as Pillow

    shown = picture.open()
    chance = np.random.default_rng(int(digest(picture.sha256, kind, severity, seed)[:16], 16))
    before = np.asarray(shown, dtype=np.float64) / 255
    strength = STRENGTHS[kind][severity - 1]
    scale = min(shown.size) / SIDE
    after = _CORRUPTIONS[kind](before, strength, scale, chance)
    return png(Pillow.fromarray(np.rint(np.clip(after, 0, 1) * 255).astype(np.uint8)))


# Each takes the picture, the strength, the size of the picture relative to 224 pixels, and a generator.


def _gaussian_noise(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    del scale
    return x + chance.normal(0, strength, x.shape)


def _shot_noise(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    """Each value is counted in photons: Poisson(x c) / c."""
    del scale
    return chance.poisson(x * strength) / strength


def _impulse_noise(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    """A share of the values is 0 or 1, as likely the one as the other."""
    import numpy as np

    del scale
    return np.where(chance.random(x.shape) < strength, chance.integers(0, 2, x.shape), x)


def _speckle_noise(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    del scale
    return x + x * chance.normal(0, strength, x.shape)


def _gaussian_blur(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    from scipy import ndimage

    del chance
    return ndimage.gaussian_filter(x, (strength * scale, strength * scale, 0), mode="nearest")


def _defocus_blur(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    """The mean over a disk."""
    import numpy as np

    del chance
    radius = max(strength * scale, 0.5)
    reach = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    disk = (reach[:, None] ** 2 + reach[None, :] ** 2 <= radius**2).astype(float)
    return _filtered(x, disk / disk.sum())


def _motion_blur(x: Pixels, strength: tuple[float, float], scale: float, chance: np.random.Generator) -> Pixels:
    """Along a line at most 45 degrees from the horizontal."""
    return _filtered(x, _streak(strength[0] * scale, strength[1] * scale, chance.uniform(-45, 45)))


def _zoom_blur(x: Pixels, strength: tuple[float, float], scale: float, chance: np.random.Generator) -> Pixels:
    """The mean of the picture and of enlarged ones."""
    import numpy as np

    del scale, chance
    zooms = np.arange(1, strength[0], strength[1])
    return (x + sum(_zoomed(x, zoom) for zoom in zooms)) / (len(zooms) + 1)


def _fog(x: Pixels, strength: tuple[float, float], scale: float, chance: np.random.Generator) -> Pixels:
    """Clouds of all sizes, each half the size of the last and `decay` times as faint, over a darkened picture."""
    del scale
    density, decay = strength
    top = x.max()
    height, width, _ = x.shape
    return (x + density * _clouds(height, width, decay, chance)[..., None]) * top / (top + density)


def _snow(x: Pixels, strength: tuple[float, ...], scale: float, chance: np.random.Generator) -> Pixels:
    """Flakes, blurred along their fall, and the same turned upside down, over a whitened picture."""
    import numpy as np

    mean, deviation, zoom, threshold, length, spread, share = strength
    flakes = _zoomed(chance.normal(mean, deviation, (*x.shape[:2], 1)), zoom * max(scale, 1 / zoom))
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    flakes = _filtered(flakes, _streak(length * scale, spread * scale, chance.uniform(45, 135)))
    gray = (x @ [0.299, 0.587, 0.114])[..., None]
    return share * x + (1 - share) * np.maximum(x, gray * 1.5 + 0.5) + flakes + flakes[::-1, ::-1]


def _brightness(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    del scale, chance
    return _in_hsv(x, 2, 1.0, strength)


def _contrast(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    del scale, chance
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * strength + mean


def _saturate(x: Pixels, strength: tuple[float, float], scale: float, chance: np.random.Generator) -> Pixels:
    del scale, chance
    return _in_hsv(x, 1, *strength)


def _pixelate(x: Pixels, strength: float, scale: float, chance: np.random.Generator) -> Pixels:
    from PIL import Image as Pillow

    del scale, chance
    shown = _picture(x)
    small = (max(1, int(shown.width * strength)), max(1, int(shown.height * strength)))
    return _pixels(shown.resize(small, Pillow.Resampling.BOX).resize(shown.size, Pillow.Resampling.NEAREST))


def _jpeg(x: Pixels, strength: int, scale: float, chance: np.random.Generator) -> Pixels:
    from PIL import Image as Pillow

    del scale, chance
    buffer = io.BytesIO()
    _picture(x).save(buffer, "JPEG", quality=strength)
    return _pixels(Pillow.open(buffer))


_CORRUPTIONS: dict[str, Any] = {
    "gaussian_noise": _gaussian_noise, "shot_noise": _shot_noise, "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise, "gaussian_blur": _gaussian_blur, "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur, "zoom_blur": _zoom_blur, "fog": _fog, "snow": _snow, "brightness": _brightness,
    "contrast": _contrast, "saturate": _saturate, "pixelate": _pixelate, "jpeg": _jpeg,
}  # fmt: skip


def _picture(x: Pixels) -> Any:
    import numpy as np
    from PIL import Image as Pillow

    return Pillow.fromarray(np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8))


def _pixels(picture: Any) -> Pixels:
    import numpy as np

    return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255


def _filtered(x: Pixels, kernel: Any) -> Pixels:
    """Each channel correlated with a kernel; at an edge its last pixel goes on."""
    import numpy as np
    from scipy import ndimage

    return np.stack([ndimage.correlate(x[..., c], kernel, mode="nearest") for c in range(x.shape[-1])], axis=-1)


def _streak(length: float, deviation: float, angle: float) -> Any:
    """A kernel (odd side, sum 1) along a line through its middle: half a bell that begins there, `angle` in degrees."""
    import numpy as np

    reach = max(1, round(length))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for at in range(reach + 1):
        row = reach + round(at * np.sin(np.deg2rad(angle)))
        column = reach + round(at * np.cos(np.deg2rad(angle)))
        kernel[row, column] += np.exp(-(at**2) / (2 * max(deviation, 1e-6) ** 2))
    return kernel / kernel.sum()


def _zoomed(x: Pixels, zoom: float) -> Pixels:
    """The middle of the picture enlarged to its size."""
    import numpy as np
    from scipy import ndimage

    height, width = x.shape[:2]
    h, w = max(1, int(np.ceil(height / zoom))), max(1, int(np.ceil(width / zoom)))
    top, left = (height - h) // 2, (width - w) // 2
    middle = x[top : top + h, left : left + w]
    larger: Any = ndimage.zoom(middle, (height / h, width / w, 1), order=1)
    return larger[:height, :width]


def _clouds(height: int, width: int, decay: float, chance: np.random.Generator) -> Any:
    """Noise of all sizes from the picture's down to a pixel's, 0 to 1."""
    import numpy as np
    from PIL import Image as Pillow

    total, weight, cells = np.zeros((height, width)), 1.0, 2
    while cells <= 2 * max(height, width):
        grid = Pillow.fromarray(chance.random((cells, cells), dtype=np.float32))
        total += weight * np.asarray(grid.resize((width, height), Pillow.Resampling.BICUBIC))
        weight, cells = weight / decay, cells * 2
    total -= total.min()
    return total / max(total.max(), 1e-12)


def _in_hsv(x: Pixels, channel: int, factor: float, summand: float) -> Pixels:
    """The picture with its hue, saturation or value (0, 1, 2) multiplied and added to, kept within 0 and 1."""
    import numpy as np
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(x)
    hsv[..., channel] = np.clip(hsv[..., channel] * factor + summand, 0, 1)
    return hsv_to_rgb(hsv)


plugin = Corruption
