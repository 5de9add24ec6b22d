"""Bad pictures are found before the first step, named, and skipped if that is wanted; nothing is opened twice."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFile

from tests.models import tiny
from tests.train.conftest import MakeRecipe, tune
from vlmend.config import ModelConfig
from vlmend.errors import DataError, ModelError
from vlmend.models.load import load
from vlmend.train.pictures import Opening
from vlmend.types import Example, Image, Message

TAKES_ALL: Callable[[tuple[int, int]], str] = lambda size: ""  # noqa: E731


def bomb(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    about = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", about) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Eight rows, of which rows 2 to 5 show a cut-off JPEG, no picture, too many pixels, and 1,500 times 2 pixels."""
    files: dict[str, bytes] = {}
    for i in (0, 1, 2, 6, 7):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    files["2.jpg"] = (tmp_path / "2.jpg").read_bytes()[:-300]
    files |= {"3.jpg": b"<html>404</html>", "4.jpg": bomb(13_000)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    Pillow.new("RGB", (3000, 2), "green").save(tmp_path / "5.jpg")
    rows = [{"id": f"row{i}", "prompt": f"What? {i}", "answer": "A thing.", "image": f"{i}.jpg"} for i in range(8)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("qwen2_vl", tmp_path_factory.mktemp("qwen"))


def recipe_of(make_recipe: MakeRecipe, base: Path, rows: Path, **data: Any) -> Any:
    mix = [{"source": f"jsonl:{rows}"}]
    return make_recipe(model={"name": str(base)}, data={"mix": mix, **data}, train={"max_steps": 1})


@pytest.mark.parametrize("dry_run", [True, False])
def test_bad_pictures_are_named_before_the_first_step(
    make_recipe: MakeRecipe, qwen: Path, rows: Path, dry_run: bool
) -> None:
    recipe = recipe_of(make_recipe, qwen, rows)
    with pytest.raises(DataError) as caught:
        tune(recipe, dry_run=dry_run)
    line = str(caught.value)
    assert line.startswith("4 of 8 examples have a picture that cannot be shown")
    for number in range(2, 6):
        assert f"example 'row{number}': image {rows.parent / f'{number}.jpg'}" in line
    for why in ("is not a readable picture", "is 13,000 x 13,000 pixels", "3,000 x 2 pixels: the processor", "200"):
        assert why in line
    assert "data.bad_images=skip" in line
    assert "\n" not in line
    assert not recipe.output.dir.exists()


def test_skipped_rows_are_counted_and_named(make_recipe: MakeRecipe, qwen: Path, rows: Path) -> None:
    outcome, shown = tune(recipe_of(make_recipe, qwen, rows, bad_images="skip"))
    assert outcome.steps == 1
    assert "4 rows skipped for pictures that cannot be shown; the first: example 'row" in shown
    about = json.loads((Path(outcome.output) / "manifest.json").read_text())
    bad = [f"row{i}" for i in range(2, 6)]
    assert about["data"]["skipped"] == {"count": 4, "rows": bad}
    assert sorted(about["data"]["parts"][0]["rows"]) == ["row0", "row1", "row6", "row7"]
    assert sorted(about["pictures"]["skipped"]) == bad
    assert tune(recipe_of(make_recipe, qwen, rows, bad_images="skip"))[0].finished_before


def test_what_one_model_refuses_another_takes(make_recipe: MakeRecipe, base: Path, rows: Path) -> None:
    with pytest.raises(DataError) as caught:
        tune(recipe_of(make_recipe, base, rows), dry_run=True)
    assert "row5" not in str(caught.value)
    assert str(caught.value).startswith("3 of 8 examples")


def test_a_set_of_bad_pictures_alone_is_an_error(make_recipe: MakeRecipe, base: Path, tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"text")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "q", "answer": "a", "image": "0.jpg"}))
    with pytest.raises(DataError, match="each of the 1 examples of the mix"):
        tune(recipe_of(make_recipe, base, tmp_path / "rows.jsonl", bad_images="skip"), dry_run=True)


def test_settings_about_pictures_do_not_make_another_run(make_recipe: MakeRecipe, base: Path, data: Path) -> None:
    mix = {"mix": [{"source": f"jsonl:{data}"}]}
    first, _ = tune(make_recipe(data=mix, train={"max_steps": 1}))
    again = {**mix, "bad_images": "skip", "max_pixels": 100_000}
    assert tune(make_recipe(data=again, train={"max_steps": 1}))[0].finished_before
    assert "skipped" not in json.loads((Path(first.output) / "manifest.json").read_text())["data"]


def asked(*images: Image) -> list[Example]:
    return [Example(f"e{i}", (Message("user", (image, "?")),)) for i, image in enumerate(images)]


def test_what_was_opened_once_is_not_decoded_again(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [rows.parent / f"{i}.jpg" for i in (0, 1, 6)]
    with Opening(asked(*map(Image, files))) as opening:
        first = opening.found(TAKES_ALL)
    assert (first.different, first.bad) == (3, {})

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    copies = [rows.parent / f"copy{i}.jpg" for i in range(3)]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    with Opening(asked(*map(Image, copies))) as opening:
        assert opening.found(TAKES_ALL) == first
    with Opening(asked(Image(copies[0], max_pixels=100))) as opening:
        assert "max_pixels 100" in opening.found(TAKES_ALL).bad["e0"]


def test_a_torn_memory_costs_time_alone(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMEND_CACHE", str(tmp_path / "cache"))
    examples = asked(Image(rows.parent / "0.jpg"))
    for _ in range(2):
        with Opening(examples) as opening:
            assert not opening.found(TAKES_ALL).bad
        [file] = (tmp_path / "cache" / "pictures").iterdir()
        file.write_bytes(b'{"no": 1}\n["torn", 3' + file.read_bytes()[:20])


def test_every_size_is_put_to_the_model_once(rows: Path) -> None:
    tried: list[tuple[int, int]] = []

    def refuses(size: tuple[int, int]) -> str:
        tried.append(size)
        return "too wide" if size[0] > 1000 else ""

    with Opening(asked(*(Image(rows.parent / f"{i}.jpg") for i in (0, 1, 5, 6)))) as opening:
        found = opening.found(refuses)
    assert sorted(tried) == [(48, 40), (3000, 2)]
    assert list(found.bad) == ["e2"]
    assert found.bad["e2"].endswith("5.jpg is 3,000 x 2 pixels: too wide")


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3", "internvl", "gemma3"])
def test_a_size_is_refused_when_the_processor_would(name: str, tmp_path: Path) -> None:
    folder = tiny.save(name, tmp_path)
    codec = load(ModelConfig(name=str(folder), device="cpu")).codec
    for size in ((40, 30), (1, 1), (300, 1), (1, 300), (100, 90), (3, 200)):
        example = Example("x", (Message("user", (Image(make=drawn(size)), "?")),))
        try:
            codec.encode_prompts([example])
            fits = True
        except DataError:  # too long for this tiny context, which the size check leaves to others
            fits = True
        except ModelError:
            fits = False
        assert (codec.refuses(size) == "") is fits, size


def drawn(size: tuple[int, int]) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        Pillow.new("RGB", size, "green").save(file, "PNG")
        return file.getvalue()

    return make
