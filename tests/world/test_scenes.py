"""Laws of scenes and their pictures."""

import io
import pickle
from functools import partial

import numpy as np
import pytest
from PIL import Image as Pillow

from vlmend.errors import DataError
from vlmend.types import Image
from vlmend.world.scenes import CELL, COLORS, HAZARDS, KINDS, Icon, Scene, draw_scene, png, render


def _scene(*icons: tuple[str, str, int]) -> Scene:
    return Scene(tuple(Icon(*icon) for icon in icons))


def test_a_scene_belongs_to_one_split_by_its_content_alone() -> None:
    scenes = [_scene((kind, color, cell)) for kind in KINDS for color in COLORS for cell in range(9)]
    assert len({scene.id for scene in scenes}) == len(scenes)
    held_out = sum(scene.split == "test" for scene in scenes) / len(scenes)
    assert 0.15 < held_out < 0.25


@pytest.mark.parametrize("split", ["train", "test"])
def test_drawn_scenes_are_of_the_split_and_hold_the_kinds_asked_for(split: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = draw_scene(rng, ["jar", "ring", "ring"], split)  # type: ignore[arg-type]
        assert scene.split == split
        assert sorted(icon.kind for icon in scene.icons) == ["jar", "ring", "ring"]
        cells = [icon.cell for icon in scene.icons]
        assert cells == sorted(set(cells))


def test_icons_lie_in_their_cells_in_their_color() -> None:
    for kind in KINDS:
        for color, paint in COLORS.items():
            picture = render(_scene((kind, color, 5)), appearance=1).astype(int)
            lit = picture.max(axis=2) > 120
            rows, columns = np.nonzero(lit)
            assert (rows // CELL == 1).all()
            assert (columns // CELL == 2).all()
            seen = picture[lit].mean(axis=0)
            nearest = min(COLORS, key=lambda name: float(np.abs(np.array(COLORS[name]) - seen).sum()))
            assert nearest == color, (kind, color, paint, seen)


def test_kinds_differ_by_more_than_jitter_and_noise() -> None:
    def gray(kind: str, appearance: int) -> np.ndarray:
        return render(_scene((kind, "white", 4)), appearance).astype(float).mean(axis=2)

    for kind in KINDS:
        for other in KINDS:
            if kind != other:
                assert np.abs(gray(kind, 3) - gray(other, 3)).mean() > 1.2


def test_appearance_changes_the_picture_and_nothing_else_does() -> None:
    scene = _scene(("ring", "red", 0), ("blade", "blue", 8))
    assert (render(scene, 1) == render(scene, 1)).all()
    assert (render(scene, 1) != render(scene, 2)).any()
    assert scene.hazards == ("blade",)
    assert set(scene.hazards) <= set(HAZARDS)


def test_the_file_holds_the_picture_and_survives_pickling() -> None:
    scene = _scene(("jar", "yellow", 3))
    image = Image(make=partial(png, scene, 9))
    again = pickle.loads(pickle.dumps(image))
    assert again.sha256 == image.sha256
    assert (np.asarray(Pillow.open(io.BytesIO(image.read()))) == render(scene, 9)).all()


def test_a_scene_that_no_split_has_is_refused() -> None:
    """Nothing in it is one scene, of one split; more things than cells fit in none. Else it is drawn."""
    rng = np.random.default_rng(0)
    empty = Scene(())
    other = "train" if empty.split == "test" else "test"
    assert draw_scene(rng, [], empty.split) == empty
    with pytest.raises(DataError, match=f"split '{other}'"):
        draw_scene(rng, [], other)
    with pytest.raises(DataError, match="ring"):
        draw_scene(rng, ["ring"] * 10, "train")
    assert draw_scene(rng, ["ring"] * 9, "test").split == "test"
