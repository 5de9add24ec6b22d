"""The review page in a real browser, and its decisions read back: what a person decides is what becomes of the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import BROWSER, Browser
from vlmend.errors import DataError, UnknownName
from vlmend.registry import sources
from vlmend.report.review import (
    KEPT,
    Decision,
    ReviewItem,
    apply_decisions,
    latest,
    mark,
    read_decisions,
    told,
    write_decisions,
    write_review,
)
from vlmend.types import Example, Image, Message, Pair

OWN = "document.title='owned'"
BREAKS = f"<!--<script></script ><script >{OWN}</script ></script><script>{OWN}</script>"
EVIL = f"{BREAKS}<img src=x onerror=\"{OWN}\"><b>bold</b> & 'so' on"
LONG = "averyveryverylongwordwithoutanyplacetobreakit" * 4
NO_BROWSER = pytest.mark.skipif(BROWSER is None, reason="no browser here")
RUN = "run-7"


def items(n: int = 6) -> list[ReviewItem]:
    """Drawn rows; every third one was refused, every third one filtered, and the last is a pair."""
    became = ((KEPT, ()), ("refused by the generator", ("it said no",)), ("filtered", ("a duplicate",)))
    rows = [row for row in sources.from_spec(f"world:safety?n={n}") if isinstance(row, Example)]
    made = [
        ReviewItem(f"item-{number}", ("train", "test")[number % 2], row, *became[number % 3], {"generator": "rule"})
        for number, row in enumerate(rows)
    ]
    ask = (Message("user", ("Which answer is better?",)),)
    return [*made, ReviewItem("pair", "prefer", Pair("pair", ask, "This one.", "That one.", category="picture"))]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as found:
        found.look()
        yield found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_review(items(), tmp_path / "review.html", "Drawn rows", run=RUN)


def cards(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('.item')].map((e) => e.dataset.id)")


def card(name: str) -> str:
    return f'.item[data-id="{name}"]'


@NO_BROWSER
def test_filter_accept_reject_edit_save_and_read_back(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert cards(browser) == [item.id for item in items()]
    browser.write("#by", "Ada")
    browser.choose("#status", "refused by the generator")
    assert cards(browser) == ["item-1", "item-4"]
    assert "it said no" in browser.text(card("item-1"))
    browser.choose("#status", "")
    browser.choose("#set", "prefer")
    assert cards(browser) == ["pair"]
    browser.choose("#set", "")
    asked = items()[2].row
    assert isinstance(asked, Example)
    question = asked.question
    browser.write("#search", question.upper())
    browser.until("document.querySelectorAll('.item').length < 7")
    assert "item-2" in cards(browser)
    browser.write("#search", "")
    browser.until("document.querySelectorAll('.item').length === 7")
    browser.click(f"{card('item-0')} h2")
    browser.press("a")  # item-0, and on to the next
    browser.press("r")  # item-1
    browser.press("j")
    browser.press("k")
    browser.press("e")  # item-2
    browser.write(f"{card('item-2')} [name=prompt]", "Where is\nthe ring?")
    browser.write(f"{card('item-2')} [name=category]", "places")
    browser.press("Enter", ctrl=True)
    assert "Where is\nthe ring?" in browser.text(card("item-2"))
    assert question in browser.run(f"document.querySelector('{card('item-2')}').textContent")  # as it was drafted
    browser.click(f"{card('item-3')} [data-verb=accept]")
    browser.click(f"{card('item-3')} [data-verb=undo]")
    browser.click(f"{card('pair')} [data-verb=edit]")
    browser.write(f"{card('pair')} [name=rejected]", "No answer.")
    browser.click(f"{card('pair')} [data-verb=keep]")
    assert browser.text("#count") == "4 of 7 decided: 1 accepted, 1 rejected, 2 edited; 7 shown"
    browser.choose("#decision", "edit")
    assert cards(browser) == ["item-2", "pair"]
    browser.click("#save")
    decisions = read_decisions(browser.downloaded("decisions-run-7.json"), run=RUN)
    assert {name: (made.decision, dict(made.changed), made.by) for name, made in decisions.items()} == {
        "item-0": ("accept", {}, "Ada"),
        "item-1": ("reject", {}, "Ada"),
        "item-2": ("edit", {"prompt": "Where is\nthe ring?", "category": "places"}, "Ada"),
        "pair": ("edit", {"rejected": "No answer."}, "Ada"),
        "item-3": ("undo", {}, "Ada"),
    }
    assert all(made.when for made in decisions.values())
    assert {name: made.about for name, made in decisions.items()} == {
        item.id: mark(item.row) for item in items() if item.id in decisions and not isinstance(item.row, str)
    }
    kept = {item.id: item.row for item in apply_decisions(items(), decisions) if item.status == KEPT}
    assert set(kept) == {"item-0", "item-2", "item-3", "pair"}
    edited = kept["item-2"]
    assert isinstance(edited, Example)
    assert (edited.question, edited.category) == ("Where is\nthe ring?", "places")
    assert browser.errors == []


@NO_BROWSER
def test_decisions_outlive_the_page_and_travel_as_a_file(tmp_path: Path, page: Path) -> None:
    with Browser(tmp_path / "one") as browser:
        browser.open(page)
        browser.press("a")
        browser.press("r")
        browser.open(page)
        assert browser.text("#count").startswith("2 of 7 decided: 1 accepted, 1 rejected")
        browser.click("#save")
        saved = browser.downloaded("*.json")
        other = write_review(items(), tmp_path / "other.html", "Another run", run="run-8")
        browser.open(other)
        assert browser.text("#count").startswith("0 of 7 decided")
        browser.give("#file", saved)
        browser.until("!document.querySelector('#notice').hidden")
        assert "is about run-7, and this page is about run-8" in browser.text("#notice")
    with Browser(tmp_path / "two") as browser:
        browser.open(page)
        assert browser.text("#count").startswith("0 of 7 decided")
        browser.press("r")
        browser.give("#file", saved)
        browser.until("!document.querySelector('#notice').hidden")
        assert browser.text("#notice").startswith("1 decisions taken")
        assert "1 left out because yours are later" in browser.text("#notice")
        assert browser.text("#count").startswith("2 of 7 decided: 0 accepted, 2 rejected")
        saved.write_text(saved.read_text()[:-20])
        browser.run("document.querySelector('#notice').hidden = true")
        browser.give("#file", saved)
        browser.until("!document.querySelector('#notice').hidden")
        assert "is damaged" in browser.text("#notice")


@NO_BROWSER
def test_what_a_model_wrote_is_text(browser: Browser, tmp_path: Path) -> None:
    ask = (Message("user", (f"first {EVIL}",)), Message("assistant", (EVIL,)), Message("user", (EVIL,)))
    row = Example("evil", ask, (EVIL, EVIL), category=EVIL, subcategory=EVIL, subset=EVIL, reasoning=EVIL)
    item = ReviewItem(EVIL, EVIL, row, f"filtered {EVIL}", (EVIL,), {EVIL: EVIL})
    page = write_review([item], tmp_path / "review.html", EVIL, run=EVIL)
    browser.open(page)
    browser.press("a")
    browser.press("k")
    browser.press("e")
    browser.write("textarea[name=answer]", EVIL + " edited")
    browser.press("Enter", ctrl=True)
    assert browser.run("document.title") == EVIL
    assert browser.run("document.querySelectorAll('.item b, .item script, .item img').length") == 1  # the mark "edited"
    assert f"{EVIL} edited" in browser.text(".item")
    browser.click("#save")
    decisions = read_decisions(browser.downloaded("*.json"), run=EVIL)
    assert decisions[EVIL].changed == {"answer": f"{EVIL} edited"}
    assert browser.errors == []


@NO_BROWSER
def test_no_other_script_may_run_and_nothing_is_fetched(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    )
    browser.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    browser.until("true")
    assert browser.run("document.title") == "Drawn rows"
    assert sum("Content Security Policy" in error for error in browser.errors) == 2


@NO_BROWSER
def test_pictures_are_blurred_until_asked_for(browser: Browser, tmp_path: Path) -> None:
    gone = Example("gone", (Message("user", (Image(tmp_path / "gone.png"), "What is it?")),))
    listed = [*items(2), ReviewItem("gone", "train", gone)]
    browser.open(write_review(listed, tmp_path / "review.html", "Pictures", run=RUN))
    frames = browser.run("document.querySelectorAll('.picture').length")
    veiled = "document.querySelectorAll('.picture.veiled').length"
    assert browser.run(veiled) == frames > 1
    assert "blur" in browser.run("getComputedStyle(document.querySelector('.picture img')).filter")
    browser.click(".picture")
    assert browser.run(veiled) == frames - 1
    assert browser.run("getComputedStyle(document.querySelector('.picture img')).filter") == "none"
    browser.press("v")
    assert browser.run(veiled) == 0
    assert browser.run("[...document.querySelectorAll('.picture img')].every((i) => i.complete && i.naturalWidth > 0)")
    assert "picture not available" in browser.text(card("gone"))


@NO_BROWSER
def test_twenty_thousand_rows_open_fast(browser: Browser, tmp_path: Path) -> None:
    drawn = items(40)[:-1]

    def many() -> Iterator[ReviewItem]:
        for number in range(20_000):
            item = drawn[number % 40]
            assert isinstance(item.row, Example)
            row = replace(item.row, answers=(f"Answer {number}. " + "It goes on and on. " * 30,))
            yield replace(item, id=f"item-{number}", row=row)

    page = write_review(many(), tmp_path / "review.html", "Many", run=RUN)
    assert browser.open(page) < 20  # a second or two alone; others use this machine
    assert browser.text("#count") == "0 of 20,000 decided: 0 accepted, 0 rejected, 0 edited; 20,000 shown"
    assert len(cards(browser)) == 25
    spent = browser.run("(() => { const t = performance.now(); act('accept'); return performance.now() - t; })()")
    assert spent < 2000
    browser.write("#search", "answer 19999")
    browser.until("document.querySelectorAll('.item').length === 1")
    assert cards(browser) == ["item-19999"]
    browser.write("#search", "")
    browser.until("document.querySelectorAll('.item').length === 25")
    browser.click("#on")
    browser.until("document.querySelector('#page').textContent.endsWith('of 20,000')")


@NO_BROWSER
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_overflows(browser: Browser, tmp_path: Path, width: int) -> None:
    first = items(2)[0].row
    assert isinstance(first, Example)
    ask = (Message("user", (LONG, *first.images)),)
    row = Example("long", ask, (LONG, LONG), category=LONG, subcategory=LONG, subset=LONG, reasoning=LONG)
    listed = [ReviewItem(LONG, LONG, row, LONG, (LONG,), {LONG: LONG}), *items(2)]
    browser.look(width)
    browser.open(write_review(listed, tmp_path / "review.html", LONG, run=RUN))
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.press("e")
    assert browser.run("document.documentElement.scrollWidth") == width


@NO_BROWSER
def test_a_page_goes_on_where_a_file_ended(browser: Browser, tmp_path: Path) -> None:
    begun = {"item-0": Decision("accept", by="Bo", when="2026-01-01"), "item-1": Decision("reject", when="2026-01-01")}
    shown = items()[0].images
    said = ReviewItem("lost", "", "I'm sorry, no.", "refused by the generator", ("it declined",), pictures=shown)
    page = write_review([*items(), said], tmp_path / "review.html", "Begun", run=RUN, decisions=begun)
    browser.open(page)
    assert browser.text("#count").startswith("2 of 7 decided: 1 accepted, 1 rejected")
    assert "I'm sorry, no." in browser.text(card("lost"))
    assert not browser.run(f"document.querySelector('{card('lost')} .verbs')")
    assert browser.run(f"document.querySelectorAll('{card('lost')} .picture').length") == len(shown) > 0
    browser.click(f"{card('item-1')} [data-verb=undo]")
    browser.open(page)
    assert browser.text("#count").startswith("1 of 7 decided: 1 accepted, 0 rejected")
    browser.click("#save")
    after = latest(begun, read_decisions(browser.downloaded("*.json"), run=RUN))
    assert {name: made.decision for name, made in after.items()} == {"item-0": "accept", "item-1": "undo"}
    assert apply_decisions(items(2), {"item-1": after["item-1"]})[1].status == items()[1].status
    assert browser.errors == []


def test_decisions_that_are_written_are_read_again(tmp_path: Path) -> None:
    made = {"a": Decision("edit", {"answer": "x"}, "Ada", "2026-01-02"), "b": Decision("undo", {}, "", "2026-01-01")}
    write_decisions(made, tmp_path / "decisions.json", run=RUN)
    assert read_decisions(tmp_path / "decisions.json", run=RUN) == made
    older = {"a": Decision("accept", when="2026-01-01"), "b": Decision("reject", when="2026-01-01")}
    assert latest(made, older) == latest(older, {"a": made["a"]}) == {"a": made["a"], "b": older["b"]}
    assert latest(older, made) == made


def test_what_no_row_came_of_cannot_be_decided() -> None:
    said = ReviewItem("lost", "", "I'm sorry, no.", "refused by the generator")
    with pytest.raises(DataError, match="no row came of 'lost'"):
        apply_decisions([said], {"lost": Decision("accept")})


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'item-0' stands twice"):
        write_review([*items(), items()[0]], tmp_path / "review.html", "Twice", run=RUN)
    assert list(tmp_path.iterdir()) == []


def saved(tmp_path: Path, decisions: object, **other: object) -> Path:
    file = tmp_path / "decisions.json"
    data: dict[str, Any] = {"kind": "vlmend review", "version": 1, "run": RUN, "by": "Ada", "saved": "now"}
    file.write_text(json.dumps({**data, "decisions": decisions, **other}))
    return file


def test_decisions_are_applied_and_told(tmp_path: Path) -> None:
    file = saved(
        tmp_path,
        {
            "item-0": {"decision": "reject", "by": "Bo", "when": "2026-01-01"},
            "item-1": {"decision": "accept"},
            "item-2": {"decision": "edit", "changed": {"answer": "No.", "prompt": "Why?", "reasoning": "It is so."}},
            "pair": {"decision": "edit", "changed": {"chosen": "Yes."}},
        },
    )
    before = items()
    done = apply_decisions(before, read_decisions(file))
    assert [item.id for item in done] == [item.id for item in before]
    zero, one, two, three, *_, pair = done
    assert (zero.status, zero.row, zero.why) == ("rejected", before[0].row, ("rejected in review",))
    assert zero.provenance == {"generator": "rule", "review": "reject", "reviewer": "Bo", "reviewed": "2026-01-01"}
    assert (one.status, one.row, one.provenance["reviewer"]) == (KEPT, before[1].row, "Ada")
    assert isinstance(two.row, Example)
    assert isinstance(before[2].row, Example)
    assert two.row.answers == ("No.", *before[2].row.answers[1:])
    assert (two.row.question, two.row.reasoning, two.status) == ("Why?", "It is so.", KEPT)
    assert two.row.images == before[2].row.images
    assert three == before[3]
    assert isinstance(pair.row, Pair)
    assert (pair.row.chosen, pair.row.rejected) == ("Yes.", "That one.")
    assert apply_decisions(before, {}) == before
    assert told(before) == "7 rows: 3 kept, 2 filtered, 2 refused by the generator"


@pytest.mark.parametrize(
    ("decisions", "other", "says"),
    [
        ({"item-0": {"decision": "acept"}}, {}, "damaged at decisions.item-0.decision"),
        ({"item-0": {"decision": "edit"}}, {}, "an edit that changes nothing"),
        ({"item-0": {"decision": "accept", "changed": {"answer": "x"}}}, {}, "accept with changes"),
        ({"item-0": {"decision": "edit", "changed": {"anser": "x"}}}, {}, "Did you mean 'answer'"),
        ({"item-0": {"decision": "edit", "changed": {"answer": 3}}}, {}, "decisions.item-0.changed.answer"),
        ([], {}, "damaged at decisions"),
        ({}, {"version": 2}, "has version 2"),
        ({}, {"kind": "something"}, "holds no decisions"),
        ({}, {"run": "run-8"}, "is about 'run-8', and this is 'run-7'"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, decisions: object, other: dict[str, object], says: str) -> None:
    with pytest.raises(DataError) as caught:
        read_decisions(saved(tmp_path, decisions, **other), run=RUN)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_or_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    file = saved(tmp_path, {})
    file.write_text(file.read_text()[:-9])
    with pytest.raises(DataError, match="not JSON"):
        read_decisions(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_decisions(tmp_path / "none.json")


def test_decisions_about_what_is_not_there_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"'item-99'\. Did you mean 'item-"):
        apply_decisions(items(), {"item-99": Decision("accept")})
    with pytest.raises(DataError, match="'pair' has no 'answer' to edit; it has prompt, chosen"):
        apply_decisions(items(), {"pair": Decision("edit", {"answer": "x"})})


def test_a_decision_holds_for_the_words_that_were_read() -> None:
    [item, *_] = items()
    assert isinstance(item.row, Example)
    made = {item.id: Decision("accept", about=mark(item.row))}
    assert apply_decisions([item], made)[0].status == KEPT
    asked = (Message("user", (*item.row.images, "Something else?")),)
    for other in (
        replace(item.row, answers=("Something else.",)),
        replace(item.row, category="x"),
        replace(item.row, reasoning="x"),
        replace(item.row, prompt=asked),
    ):
        with pytest.raises(DataError, match="says something else than when it was decided on"):
            apply_decisions([replace(item, row=other)], made)
