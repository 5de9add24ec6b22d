"""A server decodes the pixels that we see; only above the caps is anything lost, and then it is said."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from vlmend.errors import DataError
from vlmend.servers.pictures import Caps, data_url
from vlmend.types import Image


def noise(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Pillow.Image:
    channels = len(Pillow.new(mode, (1, 1)).getbands())
    data = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return (
        Pillow.fromarray(data[..., 0] if channels == 1 else data, mode=None)
        if mode != "CMYK"
        else (Pillow.fromarray(data[..., :3]).convert("CMYK"))
    )


def encoded(picture: Pillow.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def sent(data: bytes, caps: Caps | None = None) -> tuple[str, bytes, str]:
    url, lost = data_url(Image(make=lambda: data), caps or Caps())
    head, _, body = url.partition(",")
    return head, base64.b64decode(body), lost


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_plain_files_are_sent_as_they_are(kind: str) -> None:
    data = encoded(noise(), kind)
    head, body, lost = sent(data)
    assert head == f"data:image/{kind.lower()};base64"
    assert body == data
    assert lost == ""


def rotated() -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return encoded(noise(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        rotated(), encoded(noise("RGBA"), "PNG"), encoded(noise("CMYK"), "JPEG"), encoded(noise(), "BMP"),
        encoded(noise("L"), "PNG"), encoded(noise().convert("P"), "GIF"), encoded(noise("LA"), "PNG"),
        encoded(Pillow.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27), "PNG"),
        encoded(noise(), "PNG", transparency=tuple(np.asarray(noise())[0, 0].tolist())),
        encoded(noise(), "PNG", save_all=True, append_images=[noise("L").convert("RGB")]),
        encoded(noise("RGBA"), "WEBP", lossless=True),
    ],
)  # fmt: skip
def test_any_reader_sees_what_we_see(data: bytes) -> None:
    _, body, lost = sent(data)
    plain = Pillow.open(io.BytesIO(body)).convert("RGB")  # as a server would that knows of no EXIF and no transparency
    assert np.array_equal(np.asarray(plain), np.asarray(Image(make=lambda: data).open()))
    assert lost == ""


def test_caps_hold_and_are_told() -> None:
    data = encoded(noise(size=(600, 300)), "PNG")
    _, body, lost = sent(data, Caps(max_side=100))
    assert Pillow.open(io.BytesIO(body)).size == (100, 50)
    assert lost == "scaled from 600x300 to 100x50"
    _, body, lost = sent(data, Caps(max_bytes=20_000))
    assert len(body) <= 20_000
    assert lost


def test_broken_pictures_are_errors() -> None:
    with pytest.raises(DataError):
        sent(b"no picture")
    with pytest.raises(DataError):
        sent(encoded(noise(), "PNG")[:200])
