"""The picture of a front: names are legible, the better end is up and to the right, the line is the front's."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from vlmend.report import scatter
from vlmend.report.scatter import Axis, Coordinate, picture


def dot(x: float, y: float, error: float = 0.02) -> tuple[Coordinate, Coordinate]:
    return Coordinate(x, x - error, x + error), Coordinate(y, y - error, y + error)


CROWD = {f"method {i} +pd": dot(0.9 + 0.01 * (i % 4), 0.02 * (i // 4)) for i in range(12)} | {"lost": dot(0.0, 1.0)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every picture that is made."""
    found: list[Any] = []
    subplots = Figure.subplots

    def kept(self: Figure, *args: Any, **settings: Any) -> Any:
        found.append(subplots(self, *args, **settings))
        return found[-1]

    monkeypatch.setattr(Figure, "subplots", kept)
    return found


def test_names_cover_neither_one_another_nor_a_dot(drawn: list[Any]) -> None:
    picture(CROWD, {"method 3 +pd"}, Axis("utility"), Axis("harm", reversed=True), "")
    axes = drawn[0]
    renderer = axes.figure.canvas.get_renderer()
    boxes = {text.get_text(): Text.get_window_extent(text, renderer) for text in axes.texts}
    assert set(boxes) == set(CROWD)
    for one in boxes:
        assert not any(boxes[one].overlaps(boxes[other]) for other in boxes if other != one)
        for x, y in CROWD.values():
            assert not boxes[one].contains(*axes.transData.transform((x.value, y.value)))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("up", [False, True])
def test_better_is_up_and_to_the_right(drawn: list[Any], across: bool, up: bool) -> None:
    dots = {
        "good": dot(0.1 if across else 0.9, 0.1 if up else 0.9),
        "bad": dot(0.9 if across else 0.1, 0.9 if up else 0.1),
    }
    picture(dots, {"good"}, Axis("x", across), Axis("y", up), "")
    good, bad = (drawn[0].transData.transform((x.value, y.value)) for x, y in dots.values())
    assert good[0] > bad[0]
    assert good[1] > bad[1]


@pytest.mark.parametrize("reversed_", [False, True])
def test_the_line_lies_where_the_front_is_reached(reversed_: bool) -> None:
    """Every corner is at least matched by a dot of the front: the line promises nothing that no method does."""
    sign = -1 if reversed_ else 1
    steps = sorted([(0.1, 0.9), (0.5, 0.6), (0.8, 0.2)])
    steps = sorted(((sign * x, y) for x, y in steps), reverse=reversed_)
    xs, ys = scatter._stairs(steps)  # pyright: ignore[reportPrivateUsage]
    path = list(zip(xs, ys, strict=True))
    assert set(steps) <= set(path)
    assert all(a == c or b == d for (a, b), (c, d) in pairwise(path)), "level or upright"
    for x, y in path:
        assert any(sign * a >= sign * x and b >= y for a, b in steps)


def test_it_is_a_picture_and_the_same_every_time() -> None:
    first = picture(CROWD, set(), Axis("utility"), Axis("harm", reversed=True), "title")
    assert first == picture(CROWD, set(), Axis("utility"), Axis("harm", reversed=True), "title")
    assert np.asarray(Image.open(io.BytesIO(first))).std() > 5
