"""Corruptions: their published strengths seen in the pixels, nothing moved, one picture always spoilt in one way."""

from __future__ import annotations

import io
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage

from tests.attacks.test_pictures import sizes
from vlmend.attacks.corruption import SIDE, STRENGTHS, spoil
from vlmend.drawing import png, solid
from vlmend.errors import ConfigError, UnknownName
from vlmend.evaluate.attack import attacked
from vlmend.registry import attacks
from vlmend.types import Example, Image, Message


def gray(level: int, side: int = SIDE) -> Image:
    return Image(make=partial(solid, f"rgb({level},{level},{level})", (side, side)))


def scene(size: tuple[int, int] = (SIDE, SIDE)) -> Image:
    """A smooth picture with a sharp edge and colors, dark at the left and light at the right."""
    width, height = size
    ramp = np.linspace(0.1, 0.9, width)[None, :, None] * np.array([1.0, 0.7, 0.4])
    shown = np.repeat(ramp, height, axis=0)
    shown[height // 3 : height // 2, width // 4 : width // 2] = (0.1, 0.6, 0.2)
    return Image(make=partial(png, Pillow.fromarray(np.rint(shown * 255).astype(np.uint8))))


def after(picture: Image, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    data = spoil(picture, kind, severity, seed)
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"), dtype=float) / 255


def before(picture: Image) -> np.ndarray:
    return np.asarray(picture.open(), dtype=float) / 255


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_noise_has_its_published_strength(severity: int) -> None:
    level = 0.5
    picture = gray(round(255 * level))
    spread = {
        "gaussian_noise": STRENGTHS["gaussian_noise"][severity - 1],
        "speckle_noise": STRENGTHS["speckle_noise"][severity - 1] * level,
        "shot_noise": (level / STRENGTHS["shot_noise"][severity - 1]) ** 0.5,
    }
    for kind, expected in spread.items():
        made = after(picture, kind, severity)
        inside = made[(made > 0) & (made < 1)]
        if expected < 0.2:  # where clipping takes nothing off
            assert made.std() == pytest.approx(expected, rel=0.03), kind
            assert made.mean() == pytest.approx(level, abs=0.01), kind
        assert inside.size, kind
    extreme = after(picture, "impulse_noise", severity)
    hit = np.isin(extreme, (0.0, 1.0))
    assert hit.mean() == pytest.approx(STRENGTHS["impulse_noise"][severity - 1], rel=0.05)
    assert (extreme[hit] == 1).mean() == pytest.approx(0.5, abs=0.02)
    assert np.all(extreme[~hit] == picture.open().getpixel((0, 0))[0] / 255)


@pytest.mark.parametrize("severity", [1, 5])
def test_blurs_are_the_filters_they_are_named_for(severity: int) -> None:
    picture = scene()
    x = before(picture)
    sigma, radius = STRENGTHS["gaussian_blur"][severity - 1], STRENGTHS["defocus_blur"][severity - 1]
    blurred = ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
    assert np.abs(after(picture, "gaussian_blur", severity) - blurred).max() < 1 / 255
    near = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    means = np.stack([ndimage.generic_filter(x[90:110, 90:110, c], np.mean, footprint=near) for c in range(3)], -1)
    inner = slice(radius, 20 - radius)
    found = after(picture, "defocus_blur", severity)[90:110, 90:110]
    if radius < 10:
        assert np.abs(found - means)[inner, inner].max() < 1 / 255


def test_point_operations_by_hand() -> None:
    picture = scene((64, 48))
    x = before(picture)
    mean = x.mean((0, 1))
    for severity, share in enumerate(STRENGTHS["contrast"], start=1):
        assert np.abs(after(picture, "contrast", severity) - ((x - mean) * share + mean)).max() <= 0.51 / 255
    lighter = after(gray(100), "brightness", 2)
    assert np.allclose(lighter, 100 / 255 + 0.2, atol=1 / 255)
    assert np.allclose(after(gray(100), "saturate", 3), 100 / 255, atol=1 / 255)  # gray has no color to deepen
    dull, vivid = after(picture, "saturate", 2), after(picture, "saturate", 3)
    colorful = [np.ptp(shown, axis=-1).mean() for shown in (dull, x, vivid)]
    assert colorful == sorted(colorful)


def test_codecs_are_pillows_own() -> None:
    picture = scene((100, 80))
    for severity, quality in enumerate(STRENGTHS["jpeg"], start=1):
        buffer = io.BytesIO()
        picture.open().save(buffer, "JPEG", quality=quality)
        assert np.array_equal(after(picture, "jpeg", severity) * 255, np.asarray(Pillow.open(buffer), dtype=float))
    blocks = after(picture, "pixelate", 5)
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= 25 * 20


@pytest.mark.parametrize("kind", sorted(STRENGTHS.keys() - {"saturate", "fog"}))
def test_more_severe_is_further_away_and_what_is_shown_stays_in_its_place(kind: str) -> None:
    picture = scene()
    x = before(picture)
    made = [after(picture, kind, severity) for severity in range(1, 6)]
    away = [np.abs(m - x).mean() for m in made]
    assert away[0] > 0.0005
    assert away[-1] > away[0]
    assert sum(later < 0.9 * sooner for sooner, later in pairwise(away)) <= 1  # kinds of two strengths may dip once
    assert made[0][:, :50].mean() < made[0][:, -50:].mean()  # dark stays at the left
    assert np.array_equal(made[2], after(picture, kind, 3))


def test_fog_is_gray_and_leaves_the_published_share_of_the_colors() -> None:
    picture = scene()
    x = before(picture)
    for severity, (density, _) in enumerate(STRENGTHS["fog"], start=1):
        made = after(picture, "fog", severity)
        left = x.max() / (x.max() + density)
        assert np.abs((made[..., 0] - made[..., 2]) - (x[..., 0] - x[..., 2]) * left).max() < 1.5 / 255
        clouds = (made[..., 0] / left - x[..., 0]) / density
        assert clouds.min() == pytest.approx(0, abs=0.03)
        assert clouds.max() == pytest.approx(1, abs=0.03)


def test_a_picture_is_spoilt_alike_every_time_and_unlike_others() -> None:
    one, other = gray(120, 32), gray(121, 32)
    assert np.array_equal(after(one, "gaussian_noise", 3), after(gray(120, 32), "gaussian_noise", 3))
    assert not np.array_equal(after(one, "gaussian_noise", 3), after(one, "gaussian_noise", 3, seed=1))
    noise = after(one, "gaussian_noise", 3) - 120 / 255, after(other, "gaussian_noise", 3) - 121 / 255
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1


def test_lengths_grow_with_the_picture() -> None:
    small, large = scene(), scene((2 * SIDE, 2 * SIDE))
    for kind in ("gaussian_blur", "defocus_blur"):
        halved = Pillow.fromarray(np.rint(after(large, kind, 3) * 255).astype(np.uint8)).resize((SIDE, SIDE))
        assert np.abs(np.asarray(halved) / 255 - after(small, kind, 3)).mean() < 0.01, kind


@pytest.mark.parametrize("kind", STRENGTHS)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (57, 33)])
def test_any_size_keeps_its_size(kind: str, size: tuple[int, int]) -> None:
    picture = Image(make=partial(solid, "teal", size))
    assert Pillow.open(io.BytesIO(spoil(picture, kind, 5))).size == size


def test_kinds_times_severities_are_the_variants(pair: Example) -> None:
    made = attacked([attacks.from_spec("corruption:gaussian_blur,jpeg?severity=1,5")], [pair])
    assert [e.meta["variant"] for e in made] == ["gaussian_blur-1", "gaussian_blur-5", "jpeg-1", "jpeg-5"]
    for example in made:
        assert sizes(example) == sizes(pair)
        assert example.question == pair.question


def test_jpeg_and_resize(pair: Example) -> None:
    [half] = attacked([attacks.from_spec("resize:0.5")], [pair])
    assert sizes(half) == [(round(w / 2), round(h / 2)) for w, h in sizes(pair)]
    assert [e.meta["variant"] for e in attacked([attacks.from_spec("resize:0.25,2")], [pair])] == ["0.25", "2"]
    tiny = Example("t", (Message("user", (gray(3, 1), "?")),))
    assert sizes(attacked([attacks.from_spec("resize:0.01")], [tiny])[0]) == [(1, 1)]
    example = Example("s", (Message("user", (scene((64, 48)), "?")),))
    poor, good = (attacked([attacks.from_spec(f"jpeg:{q}")], [example])[0].images[0] for q in (5, 95))
    assert len(poor.read()) < len(good.read())
    x = np.asarray(example.images[0].open(), dtype=float)
    off = [np.abs(np.asarray(p.open(), dtype=float) - x).mean() for p in (good, poor)]
    assert off[0] < off[1]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("corruption:rain", "no corruption named 'rain'"),
        ("corruption:fog?severity=6", "severity is 1 to 5"),
        ("corruption:fog?severity=", "severity is 1 to 5"),
        ("resize:0", "factor"),
        ("resize:big", "factor"),
        ("resize:nan", "factor"),
        ("jpeg:0", "quality"),
        ("jpeg:96", "quality"),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: str, says: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=says):
        attacks.from_spec(spec)
