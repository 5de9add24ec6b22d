"""The pixels everyone sees, against values by hand: on white, scaled to 8 bits, first frame, upright; and the limit."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile

from vlmend.errors import DataError
from vlmend.rgb import BadPicture, decode, header
from vlmend.types import Image

RAMP = np.tile(np.linspace(0, 65535, 64).round().astype(np.uint16), (4, 1))
EIGHT = np.rint(RAMP[0] / 257)  # the same ramp in 8 bits


def encoded(picture: Pillow.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def pixels(data: bytes) -> NDArray[np.int16]:
    picture = decode(data).picture
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(np.int16)


def tiff(values: NDArray[Any], *, kind: int, white_is_zero: bool = False) -> bytes:
    """A plain TIFF of one strip; `kind` is SampleFormat: 1 unsigned, 2 signed, 3 float."""
    data = values.tobytes()
    height, width = values.shape
    tags = {
        256: width, 257: height, 258: values.itemsize * 8, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1,
        278: height, 279: len(data), 339: kind,
    }  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + rows + bytes(4)


def png(width: int, height: int, depth: int, color: int, raw: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    about = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", about) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


DEEP: dict[str, bytes] = {
    "16 bits": encoded(Pillow.fromarray(RAMP)),
    "12 bits in 16": encoded(Pillow.fromarray(RAMP >> 4)),
    "10 bits in 16": encoded(Pillow.fromarray(RAMP >> 6)),
    "16 bits in TIFF": encoded(Pillow.fromarray(RAMP), "TIFF"),
    "big-endian": encoded(Pillow.frombytes("I;16B", RAMP.shape[::-1], RAMP.astype(">u2").tobytes()), "TIFF"),
    "signed": tiff((RAMP.astype(np.int32) - 32768).astype("<i2"), kind=2),
    "32 bits": tiff(RAMP.astype("<i4") * 1000 - 7, kind=2),
    "32 bits without a sign": tiff(RAMP.astype("<u4") * 65537, kind=1),
    "floats": tiff((RAMP / 65535 * 9 - 3).astype("<f4"), kind=3),
    "floats up to 1": tiff((RAMP / 65535).astype("<f4"), kind=3),
    "PGM": b"P5 64 4 65535\n" + RAMP.astype(">u2").tobytes(),
    "white is zero": tiff((65535 - RAMP).astype("<u2"), kind=1, white_is_zero=True),
}


@pytest.mark.parametrize("name", DEEP)
def test_many_bits_are_scaled_by_the_range_they_use(name: str) -> None:
    shown = pixels(DEEP[name])
    assert shown.shape == (4, 64, 3)
    assert (shown == shown[:1, :, :1]).all()
    assert np.abs(shown[0, :, 0] - EIGHT).max() <= 1
    assert decode(DEEP[name]).changes["deep"]
    assert "deep" in header(DEEP[name]).changes


def test_what_is_said_of_many_bits() -> None:
    assert decode(DEEP["12 bits in 16"]).changes["deep"] == "16 bits per value, from 0 to 4,095, of which 12 are used"
    assert "from -3 to 6" in decode(DEEP["floats"]).changes["deep"]


def test_half_of_the_unit_range_stays_half() -> None:
    assert pixels(tiff((RAMP / 65535 / 2).astype("<f4"), kind=3)).max() == 128


def test_what_is_no_number_is_black_and_decides_nothing() -> None:
    values = (RAMP / 65535 * 9 - 3).astype("<f4")
    values[0, :3] = np.nan, np.inf, -np.inf
    shown = pixels(tiff(values, kind=3))
    assert shown[0, :3, 0].tolist() == [0, 255, 0]
    assert np.abs(shown[1, :, 0] - EIGHT).max() <= 1
    with pytest.raises(DataError, match="no value that is a number"):
        decode(tiff(np.full((2, 2), np.nan, "<f4"), kind=3))


def test_sixteen_bits_per_color_are_the_upper_eight() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 16, (3, 5, 3), dtype=np.uint16)
    data = png(5, 3, 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    assert (pixels(data) == values >> 8).all()
    assert "deep" in header(data).changes


COLORS = np.random.default_rng(1).integers(0, 256, (6, 9, 4), dtype=np.uint8)


def on_white(colors: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    return (colors * (alpha / 255)[..., None] + 255 * (1 - alpha / 255)[..., None]).round()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_on_white(kind: str) -> None:
    data = encoded(Pillow.fromarray(COLORS), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.abs(pixels(data) - on_white(COLORS[..., :3], COLORS[..., 3])).max() <= 1
    assert "transparent" in decode(data).changes
    assert "transparent" in header(data).changes


def test_gray_with_transparency_lies_on_white() -> None:
    two = Pillow.merge("LA", [Pillow.fromarray(COLORS[..., 0].copy()), Pillow.fromarray(COLORS[..., 3].copy())])
    assert np.abs(pixels(encoded(two)) - on_white(COLORS[..., :1].repeat(3, 2), COLORS[..., 3])).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "I;16"])
def test_the_transparent_color_is_white(mode: str) -> None:
    base = np.array([[0, 40], [80, 120]], dtype=np.uint8)
    if mode == "I;16":
        picture, color = Pillow.fromarray(base.astype(np.uint16) * 257), 40 * 257
    elif mode == "RGB":
        picture, color = Pillow.fromarray(base[..., None].repeat(3, 2)), (40, 40, 40)
    elif mode == "L":
        picture, color = Pillow.fromarray(base), 40
    else:
        picture = Pillow.fromarray(np.array([[0, 1], [2, 3]], dtype=np.uint8), mode=None).convert("P")
        picture.putpalette([v for gray in (0, 40, 80, 120) for v in (gray,) * 3])
        color = 1
    data = encoded(picture, "PNG", transparency=color)
    shown = pixels(data)
    assert shown[0, 1].tolist() == [255, 255, 255]
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert "transparent" in decode(data).changes


def test_an_opaque_picture_with_an_alpha_channel_is_itself() -> None:
    opaque = COLORS.copy()
    opaque[..., 3] = 255
    data = encoded(Pillow.fromarray(opaque))
    assert (pixels(data) == opaque[..., :3]).all()
    assert not decode(data).changes


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_shown(kind: str) -> None:
    frames = [Pillow.new("RGB", (8, 6), color) for color in ("red", "blue", "lime")]
    how = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how)
    assert (pixels(data) == [255, 0, 0]).all()
    assert "frames" in decode(data).changes
    assert "frames" in header(data).changes


def test_other_color_spaces_become_rgb() -> None:
    red = Pillow.new("RGB", (8, 8), (200, 40, 30))
    assert np.abs(pixels(encoded(red.convert("CMYK"), "TIFF")) - [200, 40, 30]).max() <= 1
    assert set(decode(encoded(red.convert("CMYK"), "JPEG", quality=95)).changes) == {"colors"}
    lab = Pillow.frombytes("LAB", (1, 1), bytes([255, 0, 0]))  # L* = 100: white
    assert pixels(encoded(lab, "TIFF")).min() >= 250


def test_two_levels_are_black_and_white() -> None:
    bits = Pillow.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    for kind in ("PNG", "TIFF", "BMP"):
        assert pixels(encoded(bits, kind))[0].tolist() == [[0] * 3, [255] * 3]


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_turn_of_exif_is_made(turn: int, kind: str) -> None:
    corner = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    how = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
           6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T, 8: np.rot90}  # fmt: skip
    exif = Pillow.Exif()
    exif[0x0112] = turn
    more = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Pillow.fromarray(corner).convert("RGB"), kind, exif=exif, **more)
    assert (pixels(data)[..., 0] == how[turn](corner)).all()


# The limit


def test_a_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    for side in (8200, 12_000, 13_000, 50_000):
        data = png(side, side, 8, 2, bytes(64))
        for look in (decode, header):
            with pytest.raises(BadPicture, match="67,108,864") as caught:
                look(data)
            assert caught.value.fault == "huge"


def test_the_limit_is_a_setting_of_the_picture() -> None:
    data = png(30, 20, 8, 0, bytes(31 * 20))
    assert Image(make=lambda: data).open().size == (30, 20)
    assert Image(make=lambda: data, max_pixels=600).open().size == (30, 20)
    small = Image(make=lambda: data, max_pixels=599)
    for look in (small.open, lambda: small.size):
        with pytest.raises(DataError, match=r"is 30 x 20 pixels, 600 in all, more than max_pixels 599"):
            look()
    assert small == Image(make=small.make)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_none(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="not a readable picture"):
        decode(png(*size, 8, 2, b""))


def test_damaged_exif_and_warnings_stop_nobody_in_any_thread() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = encoded(Pillow.new("RGB", (40, 20)), "JPEG", exif=exif).replace(b"Exif\0\0MM", b"Exif\0\0XX", 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        assert {seen.picture.size for seen in pool.map(decode, [data] * 40)} == {(40, 20)}


def test_a_header_is_read_from_a_file_that_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Pillow.fromarray(COLORS)))
    assert Image(file).size == (9, 6)
    file.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        _ = Image(file).size
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        _ = Image(file).size
