"""Curves stand where their numbers are, and the page has every number in words."""

import itertools
from pathlib import Path

from vlmend.metrics.rates import of
from vlmend.report import page
from vlmend.report.curves import plot
from vlmend.report.tamper import Tried, sections

STEPS = [("0", of([False] * 4)), ("4", of([True, False, False, False])), ("16", None), ("64", of([True] * 4))]


def test_marks_stand_at_their_rates_and_steps_at_even_distances() -> None:
    made = plot({"forgotten": STEPS, "benign": STEPS[:2]})
    assert [text for _, text in made.ticks] == ["0", "4", "16", "64"]
    places = [x for x, _ in made.ticks]
    assert {round(b - a, 6) for a, b in itertools.pairwise(places)} == {25.0}
    first, second = made.curves
    assert [mark.y for mark in first.marks] == [0.0, 25.0, 100.0]  # what was not measured has no mark
    assert [mark.x for mark in second.marks] == places[:2]
    assert all(mark.low <= mark.y <= mark.high for mark in first.marks)
    assert first.line.split()[0] == f"{places[0]},100.0"  # drawn from the top
    assert "1 of 4" in first.marks[1].says


def test_a_page_has_curves_a_table_and_what_could_not_be_tried(tmp_path: Path) -> None:
    tried = [
        Tried("as tuned", {"complied": of([False] * 4), "asr": of([])}),
        Tried("rounded", {}, "not possible here: <b>"),
    ]
    made = sections(tried, {"complied": {"examples": {"forgotten": STEPS}}, "told": {"examples": {"forgotten": []}}})
    assert [section.kind for section in made] == ["curves", "rates", "grid"]
    text = page.build("Tampered", made, tmp_path / "page.html").read_text()
    assert "forgotten, 4: 25.0 %: 1 of 4" in text
    assert "&lt;b&gt;" in text
    assert ">asr" not in text  # nothing was measured there
