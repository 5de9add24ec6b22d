"""Labels never overlap, not even on a phone; every word keeps its place."""

from itertools import combinations

import pytest

from tests.report.pages import EVIL, Parsed
from vlmend.report import build
from vlmend.report.page import Words
from vlmend.report.wordmap import LETTER, LINE, NARROW, TALL, Dot, Point, layout


def box(dot: Dot) -> tuple[float, float, float, float]:
    left, middle, width = dot.x / 100 * NARROW, dot.y / 100 * TALL - dot.shift, LETTER * len(dot.point.word)
    start = left + 6 if dot.label == "right" else left - 6 - width
    return start, middle - LINE / 2, start + width, middle + LINE / 2


def test_right_is_refusal_and_up_is_more() -> None:
    few, many = layout([Point("share", 5, 0, 3.0), Point("what", 10, 800, -5.0)]).dots
    assert few.x > 50 > many.x
    assert many.y > few.y
    assert few.label == many.label == "right" or {few.label, many.label} == {"left", "right"}


def test_labels_do_not_overlap_and_stay_inside() -> None:
    points = [Point(f"word{i % 9}", 1 + i % 7, i % 5, (i % 13) - 6.0) for i in range(60)]
    labeled = [box(dot) for dot in layout(points).dots if dot.label]
    assert 5 < len(labeled) < 60
    for one, other in combinations(labeled, 2):
        assert (
            one[2] <= other[0] + 0.1 or other[2] <= one[0] + 0.1 or one[3] <= other[1] + 0.1 or other[3] <= one[1] + 0.1
        )
    assert all(start >= -0.1 and end <= NARROW + 0.1 for start, _, end, _ in labeled)


@pytest.mark.parametrize("points", [[], [Point("only", 1, 0, 1.1)], [Point("a", 3, 3, 0.0), Point("b", 3, 3, 0.0)]])
def test_small_plots(points: list[Point]) -> None:
    made = layout(points)
    assert len(made.dots) == len(points)
    assert all(0 <= dot.x <= 100 and 0 <= dot.y <= 100 for dot in made.dots)


def test_words_are_escaped_on_the_page(tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = build("Words", (Words("Words", (Point(EVIL, 3, 1, 0.5),), EVIL),), tmp_path / "w.html").read_text()
    parsed = Parsed(page)
    assert "script" not in parsed.tags
    assert EVIL in parsed.texts
