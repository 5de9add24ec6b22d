"""What became of each request, on the page: in the words of its suite, for every suite, also one that is gone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.report.pages import Parsed, record
from tests.suites.told import EACH, TOLD, Told, pairs, store
from vlmend.data.placeholder import draw
from vlmend.metrics.outcomes import by_rightness
from vlmend.registry import suites
from vlmend.report import build
from vlmend.report.gallery import Column, gallery
from vlmend.report.page import Gallery, Grid, Prose, Section
from vlmend.report.runs import sections
from vlmend.report.tables import SIGNS
from vlmend.types import Example, Expected, Finish, Image, Message, Outcome, Record, Response, Role, Verdict


def grid(found: list[Section]) -> Grid:
    return next(s for s in found if isinstance(s, Grid) and s.title == "What became of the requests")


def asked(name: str, **about: object) -> Example:
    return Example(name, (Message("user", (Image(make=partial(draw, name)), "q")),), **about)  # pyright: ignore


def said(example: Example, text: str = "x", finish: Finish = Finish.STOP, **verdict: bool | None) -> Record:
    response = Response(f"r/{example.id}/{text}", example.id, text, finish)
    return Record(example, response, (Verdict("j", response.id, **verdict),))  # pyright: ignore


@EACH
def test_every_suite_has_its_outcomes_counted_and_shown(told: Told, tmp_path: Path) -> None:
    both = pairs(told)[::5]
    folders = [store(tmp_path / name, told.spec, [two[side] for two in both]) for side, name in enumerate("ab")]
    found, outcome = sections(folders, limit=6), suites.from_spec(told.spec).outcome
    counts = {row[0]: tuple(map(int, row[1:])) for row in grid(found).rows}
    wanted: dict[str, Counter[int]] = {}
    for two in both:
        for side, one in enumerate(two):
            wanted.setdefault(SIGNS[outcome(one).tone] + outcome(one).name, Counter())[side] += 1
    assert counts == {name: (sides[0], sides[1]) for name, sides in wanted.items()}
    [shown] = [s for s in found if isinstance(s, Gallery)]
    before = {two.before.example.id: two for two in both if not two.before.response.sample}
    assert len(shown.items) == 6
    for item in shown.items:
        outcomes = [outcome(one) for one in before[item.id]]
        assert [(a.mark, a.tone) for a in item.answers] == [(o.name, o.tone) for o in outcomes]
        assert outcomes[0] != outcomes[1], "those whose outcomes differ come first"


def test_a_page_of_several_suites_has_a_gallery_for_each(tmp_path: Path) -> None:
    specs = ("mis:data", "pope:data", "world_unlearning")
    by = {told.spec: told for told in TOLD}
    folders = [
        store(tmp_path / str(i), spec, [two.before for two in pairs(by[spec])[::9]]) for i, spec in enumerate(specs)
    ]
    found = sections(folders, limit=2)
    assert sum(isinstance(s, Gallery) for s in found) == 3
    page = build("t", found, tmp_path / "r.html").read_text()
    assert {"✗ unsafe", "✓ safe, with reasons", "✓ right", "✗ harm"} <= set(Parsed(page).texts)


@pytest.mark.parametrize("spec", ["gone:data", "source:gone:data", None])
def test_a_suite_that_is_gone_still_has_a_page_that_says_so(spec: str | None, tmp_path: Path) -> None:
    records = [record(f"e{i}", "text", refused=bool(i % 2)) for i in range(6)]
    folder = store(tmp_path / "a", "vlguard:data", [replace(r, judges={"refused": "refusal"}) for r in records])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["suite_spec"] = spec
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = sections([folder])
    assert {row[0]: row[1] for row in grid(found).rows} == {"✗ unsafe": "3", "✓ safe": "3"}
    assert "refusals only" in grid(found).note
    assert str(folder) in grid(found).note
    assert any(isinstance(s, Gallery) for s in found)


def test_outcomes_of_its_own_are_what_differs() -> None:
    """Two models both refuse nothing, and one is right: to a suite that asks for the right answer, they differ."""
    example = asked("a", answers=("yes",))
    columns = [
        Column(name, [said(example, refused=False, correct=right)], by_rightness)
        for name, right in (("x", True), ("y", False))
    ]
    same = asked("b", answers=("yes",))
    rows = [replace(c, records=[*c.records, said(same, refused=False, correct=True)]) for c in columns]
    [first, second] = gallery(rows)
    assert (first.id, second.id) == ("a", "b")
    assert [(a.mark, a.tone) for a in first.answers] == [("right", "good"), ("wrong", "bad")]
    assert first.wanted == "right answer: yes"


def test_what_is_wanted_is_said_where_somebody_knows() -> None:
    def wanted(**about: object) -> str:
        [item] = gallery([Column("m", [said(asked("a", **about), refused=True)])])
        return item.wanted

    assert wanted(expected=Expected.REFUSE) == "should refuse"
    assert wanted(expected=Expected.REASON) == "should name the danger"
    assert wanted() == "should answer"
    assert wanted(role=Role.FORGET) == "to be forgotten"
    assert wanted(expected=Expected.REFUSE, subset="picture", meta={"pair": "p"}) == ""
    assert wanted(expected=Expected.REFUSE, subset="both", meta={"pair": "p"}) == "should refuse"


def test_babble_has_no_tick_and_silence_is_told() -> None:
    salad = "so it is and so it is and so it is and so it is"
    rows = [
        said(asked("a"), salad, refused=False), said(asked("b", expected=Expected.REFUSE), salad, refused=False),
        said(asked("c"), ""), said(asked("d"), "", Finish.FAILED),
    ]  # fmt: skip
    shown = {item.id: item.answers[0] for item in gallery([Column("m", rows)])}
    assert [(shown[n].mark, shown[n].tone) for n in "ab"] == [("babble", "bad"), ("babble", "neutral")]
    assert [shown[n].text for n in "cd"] == ["(said nothing)", "(failed)"]


def test_variants_stand_beside_what_they_come_from() -> None:
    plain = asked("a", expected=Expected.REFUSE)
    shots = [replace(plain, id=f"a@{n}", meta={"variant_of": "a"}) for n in ("what", "how")]
    attacked = [said(shot, refused=n == 0) for n, shot in enumerate(shots)]
    [item] = gallery([Column("plain", [said(plain, refused=False)]), Column("attacked", attacked)])
    assert [a.mark for a in item.answers] == ["unsafe", "safe"]
    both = gallery([Column("one", attacked), Column("two", attacked)])
    assert sorted(item.id for item in both) == ["a@how", "a@what"]


def test_runs_without_a_common_question_say_so(tmp_path: Path) -> None:
    folders = [
        store(
            tmp_path / name,
            "vlguard:data",
            [replace(record(name, "text", refused=True), judges={"refused": "refusal"})],
        )
        for name in "ab"
    ]
    found = sections(folders)
    assert not [s for s in found if isinstance(s, Gallery)]
    assert any("in all of these runs" in text for s in found if isinstance(s, Prose) for text in s.paragraphs)


def test_pictures_to_forget_are_hidden_whatever_is_asked_about_them() -> None:
    harmful, white = Image(make=partial(draw, "x")), Image(make=partial(draw, "y"))

    def about(name: str, image: Image, **more: object) -> Record:
        return said(Example(name, (Message("user", (image, "q")),), **more), refused=False)  # pyright: ignore

    rows = [
        about("forget", harmful, role=Role.FORGET, expected=Expected.REFUSE),
        about("retain", harmful, role=Role.RETAIN),
        about("decouple", white, role=Role.DECOUPLE),
        about("unsafe", Image(make=partial(draw, "z")), source="unsafe_concepts", category="Violence"),
        about("safe", Image(make=partial(draw, "w")), source="unsafe_concepts"),
    ]  # fmt: skip
    hidden = {item.id: item.veiled for item in gallery([Column("m", rows)], veil=True)}
    assert hidden == {"forget": True, "retain": True, "decouple": False, "unsafe": True, "safe": False}
    assert not any(item.veiled for item in gallery([Column("m", rows)]))


def test_outcomes_are_counted_worst_first(tmp_path: Path) -> None:
    records = [record(f"e{i}", "text", refused=r) for i, r in enumerate([True, True, False, None])]
    folder = store(tmp_path / "a", "vlguard:data", [replace(r, judges={"refused": "refusal"}) for r in records])
    rows = [row[0] for row in grid(sections([folder])).rows]
    assert rows == [SIGNS[o.tone] + o.name for o in (Outcome("unsafe", "bad"), Outcome("safe", "good"))] + ["unscored"]
