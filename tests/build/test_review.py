"""What people decided about drafts is what the sets hold, also when the run goes on; a page shows every draft."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.build.generator import Generator, draw
from tests.build.test_run import FAULTS, command, report, rows
from tests.report.browser import BROWSER, Browser
from tests.servers.stub import Stub
from vlmend.build.decisions import run_id
from vlmend.build.drafts import made
from vlmend.build.pipeline import Draft
from vlmend.build.sift import item_id
from vlmend.cli import main
from vlmend.data import read
from vlmend.types import Example


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose generator made mistakes, some of whose drafts are left out for their length."""
    folder = tmp_path_factory.mktemp("begun")
    scenes = draw(folder / "pictures", 30)
    with Stub(Generator(scenes, FAULTS)) as stub:
        words = command(stub, folder / "pictures", folder / "run", "--longest", "14")
        assert main([*words, "--json"]) == 0
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    """The same run, to be changed. Its pictures stay where they are."""
    import shutil

    shutil.copytree(begun / "run", tmp_path / "run")
    return tmp_path / "run"


def drafts(run: Path) -> dict[str, Draft]:
    return {item_id(draft): draft for each in made(run) for draft in each.drafts}


def kept(run: Path) -> dict[str, Example]:
    found = read(f"jsonl:{run / 'sets/train.jsonl'}?allow_outside=true")
    return {f"train/{row.id}": row for row in found}


def decide(run: Path, file: Path, **decisions: dict[str, Any]) -> Path:
    data = {"kind": "vlmend review", "version": 1, "run": run_id(run), "by": "Ada", "decisions": decisions}
    file.write_text(json.dumps(data))
    return file


def test_a_dry_run_begins_nothing_and_drawn_rows_are_built_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", "replay?judge=", "world:safe?n=4", "--model", "base=scripted:comply", "--out"]
    report(capsys, [*words, str(tmp_path / "run"), "--dry-run"])
    assert not (tmp_path / "run").exists()
    told = report(capsys, [*words, str(tmp_path / "run")])
    assert told["sets"]["replay"]["drafts"] == 4
    report(capsys, ["review", str(tmp_path / "run")])
    for each in made(tmp_path / "run"):
        for draft in each.drafts:
            assert all(image.path and image.path.is_file() for image in draft.row.images)


def test_a_page_changes_no_set(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(run)
    told = report(capsys, ["review", str(run)])
    assert told == {"decided": {}, "page": str(run / "review.html")}
    assert rows(run) == before
    page = (run / "review.html").read_text(encoding="utf-8")
    for name, draft in drafts(run).items():
        assert json.dumps(name) in page
        assert json.dumps(draft.row.question) in page
    lost = [loss for each in made(run) for loss in each.losses]
    assert lost
    assert page.count('"refused by the generator"') == len(lost)
    for each in made(run):
        assert [image.path.name for image in each.pictures if image.path] == [each.start] * bool(each.losses)


def test_sets_hold_what_was_decided_and_go_on_doing_so(
    run: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *others = kept(run)
    filtered = next(name for name in drafts(run) if name not in kept(run))
    before = kept(run)
    file = decide(
        run, tmp_path / "d.json",
        **{first: {"decision": "reject"}, second: {"decision": "edit", "changed": {"prompt": "Where is the ring?"}},
           filtered: {"decision": "accept", "by": "Bo"}},
    )  # fmt: skip
    told = report(capsys, ["review", str(run), "--decisions", str(file)])
    assert told["decided"] == {"reject": 1, "edit": 1, "accept": 1}
    assert (told["taken"], told["left_out"]) == (3, 0)
    after = kept(run)
    assert set(after) == {second, filtered, *others}
    assert after[second].question == "Where is the ring?"
    assert after[second].answers == before[second].answers
    assert (after[second].meta["review"], after[second].meta["reviewer"]) == ("edit", "Ada")
    assert after[filtered].meta["reviewer"] == "Bo"
    assert "review" not in after[others[0]].meta
    assert told["sets"]["train"]["rows"] == len(after) == len(before)
    assert told["sets"]["train"]["left_out"]["rejected in review"] == 1
    written = rows(run)
    report(capsys, ["review", str(run)])
    assert rows(run) == written
    [generator] = json.loads((run / "build.json").read_text())["settings"]["company"]["generator"]
    with Stub(Generator({})) as stub:  # whose address is another one: nobody may be asked
        words = command(stub, begun / "pictures", run, "--longest", "14")
        words[words.index("--generator") + 1] = f"{generator[0]}?backoff=0.01&server=plain&window=8"
        again = report(capsys, words)
    assert again["starts"]["done before"] == 30
    assert rows(run) == written
    late = decide(run, tmp_path / "l.json", **{first: {"decision": "reject", "when": "2027"}})
    assert report(capsys, ["review", str(run), "--decisions", str(late)])["taken"] == 1
    undone = decide(run, tmp_path / "u.json", **{first: {"decision": "undo", "when": "2026"}})
    told = report(capsys, ["review", str(run), "--decisions", str(undone)])
    assert (told["taken"], told["left_out"]) == (0, 1)
    assert first not in kept(run)
    undone = decide(run, tmp_path / "u.json", **{first: {"decision": "undo", "when": "2028"}})
    report(capsys, ["review", str(run), "--decisions", str(undone)])
    assert kept(run)[first].question == before[first].question


def test_a_set_of_which_nothing_is_left_has_no_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = decide(run, tmp_path / "d.json", **{name: {"decision": "reject"} for name in drafts(run)})
    told = report(capsys, ["review", str(run), "--decisions", str(file)])
    assert rows(run) == {}
    assert (told["sets"]["train"]["rows"], told["sets"]["train"]["drafts"]) == (0, len(drafts(run)))
    assert told["sets"]["train"]["left_out"]["rejected in review"] == len(drafts(run))


def test_a_sample_is_chosen_by_ids_and_has_all_that_was_decided(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> set[str]:
        page = (run / "review.html").read_text(encoding="utf-8")
        blocks = re.findall(r'<script type="application/json" class="rows">(.*?)</script>', page)
        return {row["id"] for block in blocks for row in json.loads(block)}

    report(capsys, ["review", str(run)])
    everything = shown()
    report(capsys, ["review", str(run), "--sample", "4"])
    four = shown()
    assert len(four) == 4
    report(capsys, ["review", str(run), "--sample", "7"])
    assert four < shown() < everything
    name = next(name for name in drafts(run) if name not in shown())
    file = decide(run, tmp_path / "d.json", **{name: {"decision": "accept"}})
    report(capsys, ["review", str(run), "--sample", "4", "--decisions", str(file)])
    assert shown() == {name, *four}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"decisions": {"train/nobody": {"decision": "accept"}}}, "no draft that was decided on named 'train/nobody'"),
        ({"run": "vlguard-0"}, "is about 'vlguard-0'"),
        (
            {"decisions": {"FIRST": {"decision": "accept", "about": "0"}}},
            "says something else than when it was decided",
        ),
        ({"decisions": {"FIRST": {"decision": "edit", "changed": {"chosen": "x"}}}}, "has no 'chosen' to edit"),
        ({"version": 9}, "has version 9"),
    ],
)
def test_decisions_that_do_not_fit_change_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], says: str
) -> None:
    before = rows(run)
    file = decide(run, tmp_path / "d.json")
    data = json.dumps({**json.loads(file.read_text()), **changed})
    file.write_text(data.replace("FIRST", next(iter(drafts(run)))))
    assert main(["review", str(run), "--decisions", str(file)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert rows(run) == before
    assert not (run / "decisions.json").exists()


def test_what_is_no_run_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", str(tmp_path / "nothing")]) == 2
    assert "is no folder of `vlmend build`" in " ".join(capsys.readouterr().err.split())
    about = json.loads((run / "build.json").read_text())
    (run / "build.json").write_text(json.dumps({"settings": about["settings"]}))
    assert main(["review", str(run)]) == 2
    assert "stopped before its sets were written" in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_from_the_page_to_the_sets(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(capsys, ["review", str(run)])
    with Browser(tmp_path / "browser") as browser:
        browser.look()
        browser.open(run / "review.html")
        browser.write("#by", "Ada")
        browser.press("Enter")
        browser.choose("#status", "kept")
        [first, second] = browser.run("[...document.querySelectorAll('.item')].slice(0, 2).map((e) => e.dataset.id)")
        browser.press("r")
        browser.press("e")
        browser.write("[name=answer]", "It is so.")
        browser.press("Enter", ctrl=True)
        browser.click("#save")
        saved = browser.downloaded("*.json")
        assert browser.errors == []
    report(capsys, ["review", str(run), "--decisions", str(saved)])
    assert first not in kept(run)
    assert kept(run)[second].answers[0] == "It is so."
