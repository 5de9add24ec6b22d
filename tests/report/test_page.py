from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.report.pages import EVIL, Parsed, rate, record, table
from vlmend.report import build, tables
from vlmend.report.gallery import Column, gallery
from vlmend.report.page import Banner, Bars, Finding, Findings, Gallery, Grid, Prose, Provenance, Rates
from vlmend.types import Expected, Image

LONG = "Word after word. " * 60


def columns() -> list[Column]:
    plain = [record("a", "I'm sorry.", refused=True), record("b", EVIL, refused=False), record("c", "", refused=None)]
    other = [record("a", LONG, refused=False), record("b", "ok", refused=False), record("c", "ok", refused=False)]
    return [Column("one", plain), Column(EVIL, other)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    sections = (
        Banner(f"PLACEHOLDER {EVIL}"),
        Findings((Finding(EVIL, (("before", rate(3, 197, 3)), ("after", rate(0, 0))), EVIL),)),
        Rates(table()),
        Bars(table()),
        Prose("Words", (EVIL,)),
        Grid("Grid", ("a", EVIL), ((EVIL, "3"),)),
        Gallery("Said", gallery(columns(), veil=True), EVIL),
        Provenance({EVIL: {"model": {"name": EVIL, "layers": [1, 2]}, "none": None}}),
    )
    out = build(EVIL, sections, tmp_path_factory.mktemp("page") / "deep" / "report.html", lead=EVIL)
    return out.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_runs_nothing(page: str) -> None:
    parsed = Parsed(page)
    assert "script" not in parsed.tags
    assert EVIL.split("<img")[0] in "".join(parsed.texts)  # shown as text, not swallowed


def test_nothing_is_fetched(page: str) -> None:
    assert all(address.startswith("data:image/") for address in Parsed(page).addresses)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page


def test_every_number_on_the_page_is_that_of_its_rate(page: str) -> None:
    said = {text for text in Parsed(page).texts}
    for row in table().rows:
        for rated in row.rates.values():
            assert tables.value(rated) in said
            assert f"{rated.k}/{rated.n}" in said
            if rated.n:
                assert tables.interval(rated) in said
    known = [rated for row in table().rows for rated in row.rates.values()] + [rate(3, 197, 3), rate(0, 0)]
    values = {tables.value(rated) for rated in known}
    assert {text for text in said if re.fullmatch(r"[\d.]+ %", text)} <= values


def test_nothing_scored_is_a_dash(page: str) -> None:
    cells = re.findall(r'<td class="rate num".*?</td>', page, flags=re.S)
    empty = [cell for cell in cells if "0/0" in cell]
    assert len(empty) == 2
    assert all("<b>–</b>" in cell for cell in empty)


def test_unscored_and_the_worst_case_are_told(page: str) -> None:
    assert "3 unscored" in page
    assert f"worst case {tables.percent(rate(3, 197, 3).worst)} %" in page


def test_bars_end_where_the_rates_say(page: str) -> None:
    assert [float(at) for at in re.findall(r"--at:([\d.]+)", page)] == [99.5, 1.52, 99.0, 96.5]
    lows = [float(low) for low in re.findall(r"--low:([\d.]+)", page)]
    expected = [
        rated for column in table().columns for row in table().rows if (rated := row.rates.get(column)) and rated.n
    ]
    assert lows == [round(100 * (rated.low or 0), 2) for rated in expected]


def test_long_answers_fold(page: str) -> None:
    assert "whole answer, 1,020 characters" in page
    assert LONG.strip() in page


def test_pictures_of_what_to_refuse_are_veiled_and_described(page: str) -> None:
    assert page.count('class="veil"') == 3
    assert 'alt="Picture 1 of example a"' in page


def test_every_header_has_a_scope(page: str) -> None:
    assert len(re.findall(r"<th\b", page)) == len(re.findall(r"<th scope=", page)) > 8


def test_a_picture_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    from dataclasses import replace

    (item, *_) = gallery(columns())
    gone = replace(item, images=(Image(tmp_path / "gone.png"),))
    out = build("t", [Gallery("g", (gone,))], tmp_path / "r.html")
    assert "picture not available" in out.read_text()


def test_the_gallery_shows_what_flipped_first_and_is_always_the_same() -> None:
    same = [record(f"s{i}", "ok", refused=False, subset=f"set{i % 2}") for i in range(20)]
    flips = [record(f"f{i}", "ok", refused=i % 2 == 0, subset=f"set{i % 3}") for i in range(6)]
    after = [record(f"f{i}", "ok", refused=i % 2 == 1, subset=f"set{i % 3}") for i in range(6)]
    items = gallery([Column("a", [*same, *flips]), Column("b", [*after, *same])], limit=8)
    assert {item.id[0] for item in items[:6]} == {"f"}
    assert {item.subset for item in items[:3]} == {"set0", "set1", "set2"}
    again = gallery([Column("a", [*flips, *same[::-1]]), Column("b", [*same, *after])], limit=8)
    assert [item.id for item in again] == [item.id for item in items]


def test_the_gallery_can_be_narrowed_to_what_became_of_the_requests(page: str) -> None:
    """A choice for each mark, and every item carries the classes of its own marks: one rule hides the others."""
    shown = Gallery("Said", gallery(columns()))
    choices = re.findall(r'<label><input type="radio" name="(\w+)"(?: class="(m\d+)"| checked)> (.*?)</label>', page)
    assert len({name for name, _, _ in choices}) == 1
    assert [(place, mark) for _, place, mark in choices] == [
        ("", "all"), *((f"m{n}", mark) for n, mark in enumerate(shown.marks, start=1)),
    ]  # fmt: skip
    assert len(shown.marks) > 1
    for item, classes in zip(shown.items, re.findall(r'<article class="card item([^"]*)">', page), strict=True):
        own = {f"m{shown.marks.index(answer.mark) + 1}" for answer in item.answers}
        assert {name for name in classes.split() if name.startswith("m")} == own
    for n in range(1, len(shown.marks) + 1):
        assert f"section:has(.filter .m{n}:checked) .item:not(.m{n}) {{ display: none; }}" in page


def test_marks_say_whether_the_reaction_was_right() -> None:
    rows = [
        record("a", "no", refused=True),
        record("b", "yes", refused=False),
        record("c", "no", refused=True, expected=Expected.ANSWER),
        record("d", "yes", refused=False, expected=Expected.ANSWER),
        record("e", "hm", refused=None),
        record("f", "", refused=True),
    ]
    marks = {item.id: (item.answers[0].mark, item.answers[0].tone) for item in gallery([Column("m", rows)])}
    assert marks == {
        "a": ("safe", "good"),
        "b": ("unsafe", "bad"),
        "c": ("over-refused", "bad"),
        "d": ("helpful", "good"),
        "e": ("unscored", "neutral"),
        "f": ("unscored", "neutral"),
    }
