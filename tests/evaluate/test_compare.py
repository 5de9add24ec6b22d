"""Two runs, suite by suite: what became of each request in the words of its suite, and nothing left out in silence."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.suites.told import EACH, Told, pairs, store
from vlmend.cli.compare import compare as command
from vlmend.errors import UsageError
from vlmend.evaluate.compare import compare, left_out
from vlmend.metrics.rates import measure
from vlmend.registry import suites
from vlmend.types import Example, Expected, Finish, Message, Record, Response, Role, Verdict

ERASER = "safeeraser:data"


def forgotten(n: int, *, harm: bool) -> list[Record]:
    """`n` answers to what was to be forgotten, all harmful, or all refused."""
    found: list[Record] = []
    for i in range(n):
        example = Example(
            f"safeeraser/train/{i}", (Message("user", (f"question {i}",)),),
            expected=Expected.REFUSE, subset="forget", role=Role.FORGET,
        )  # fmt: skip
        response = Response(f"r{i}{harm}", example.id, "Take the bolt." if harm else "I can't help.", Finish.STOP)
        verdicts = (
            Verdict("rubric:harm", response.id, harmful=harm),
            Verdict("rubric:tone", response.id, refused=not harm),
        )
        judges = {"harmful": "rubric:harm", "refused": "rubric:tone"}
        found.append(Record(example, response, verdicts, judges=judges))
    return found


def printed(*args: str) -> str:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*args], catch_exceptions=False, env={"COLUMNS": "200"}).stdout


def test_a_run_that_lost_all_harm_says_so(tmp_path: Path) -> None:
    before = store(tmp_path / "a", ERASER, forgotten(32, harm=True))
    after = store(tmp_path / "b", ERASER, forgotten(32, harm=False))
    [found] = compare(before, after)
    data = json.loads(json.dumps(found.to_json()))
    assert data["transitions"] == [
        {
            "before": "harmful", "after": "refused", "before_tone": "bad", "after_tone": "good", "n": 32,
            "meaning": "harmful → refused, better",
        }
    ]  # fmt: skip
    assert data["metrics"]["asr_efficacy"]["difference"] == -1.0
    assert len(data["flipped"]) == 32
    assert data["flipped"][0]["change"] == "harmful → refused, better"
    told = printed(str(before), str(after), "--flips", "1")
    assert "32 examples changed" in told
    assert "before (harmful): Take the bolt." in told


@EACH
def test_stored_runs_of_every_suite_are_told_apart_as_their_records_are(told: Told, tmp_path: Path) -> None:
    """From two folders come the same transitions and changes as from the records they were made of."""
    made = pairs(told)
    both = made[:: len(made) // 60 + 1]
    folders = [store(tmp_path / name, told.spec, [two[side] for two in both]) for side, name in enumerate("ab")]
    [found] = compare(*folders)
    suite = suites.from_spec(told.spec)
    assert found.transitions == Counter((suite.outcome(two.before), suite.outcome(two.after)) for two in both)
    assert sum(found.transitions.values()) - len(found.flipped) == sum(
        n for (before, after), n in found.transitions.items() if before == after
    )
    assert {c.metric for c in found.changes} == {m.name for m in suite.metrics}


def test_answers_are_counted_where_an_example_has_several(tmp_path: Path) -> None:
    def sampled(harm: bool) -> list[Record]:
        return [
            replace(r, response=replace(r.response, id=f"{r.response.id}/{n}", sample=n), verdicts=tuple(
                replace(v, response_id=f"{r.response.id}/{n}") for v in r.verdicts
            ))
            for r in forgotten(4, harm=harm) for n in range(3)
        ]  # fmt: skip

    folders = [store(tmp_path / name, ERASER, sampled(harm)) for name, harm in (("a", True), ("b", False))]
    told = printed(*map(str, folders))
    assert "12 answers in both runs" in told
    assert "12 answers changed" in told


def several(folder: Path, names: list[str], specs: list[str], *, harm: bool) -> Path:
    for name, spec in zip(names, specs, strict=True):
        store(folder / name, spec, forgotten(4, harm=harm))
    return folder


def test_suites_find_each_other_whatever_their_folders_are_called(tmp_path: Path) -> None:
    before = several(
        tmp_path / "a", ["one", "vlguard", "mine"], [ERASER, "vlguard:d", "source:world:safety"], harm=True
    )
    after = several(tmp_path / "b", ["other", "vlguard", "pope"], [ERASER, "vlguard:d", "pope:d"], harm=False)
    found = compare(before, after)
    assert [c.suite for c in found] == ["safeeraser", "vlguard"] or [c.suite for c in found] == [
        "vlguard",
        "safeeraser",
    ]
    only = left_out(before, after)
    assert [[run.folder.name for run in runs] for runs in only] == [["mine"], ["pope"]]
    told = printed(str(before), str(after))
    assert "only A has 1 suite more: source" in told
    assert "only B has 1 suite more: pope" in told
    data = json.loads(printed(str(before), str(after), "--json"))
    assert (data["suites_only_before"], data["suites_only_after"]) == (["source"], ["pope"])


def test_of_two_protocols_of_one_suite_each_finds_its_own(tmp_path: Path) -> None:
    specs = [ERASER, f"{ERASER}?protocol=as_coded"]
    before = several(tmp_path / "a", ["x", "y"], specs, harm=True)
    after = several(tmp_path / "b", ["y", "z"], specs[::-1], harm=False)
    assert [(c.before.folder.name, c.after.folder.name) for c in compare(before, after)] == [("x", "z"), ("y", "y")]


def test_one_run_is_compared_with_that_of_its_suite_among_several(tmp_path: Path) -> None:
    before = several(tmp_path / "a", ["one", "two"], [ERASER, "vlguard:d"], harm=True)
    after = store(tmp_path / "b", ERASER, forgotten(4, harm=False))
    assert [c.before.folder.name for c in compare(before, after)] == ["one"]
    with pytest.raises(UsageError, match="no suite in common: safeeraser, vlguard there, pope here"):
        compare(before, store(tmp_path / "c", "pope:d", forgotten(4, harm=True)))


def test_whoever_decides_in_one_run_only_is_told(tmp_path: Path) -> None:
    """The same answers by another judge: nothing differs but who was heard."""
    records = forgotten(6, harm=True)
    judges = {**records[0].judges, "harmful": "strict"}
    verdict = Verdict("strict", "", harmful=False)
    other = [
        replace(r, judges=judges, verdicts=(*r.verdicts, replace(verdict, response_id=r.response.id))) for r in records
    ]
    [found] = compare(store(tmp_path / "a", ERASER, records), store(tmp_path / "b", ERASER, other))
    assert found.differing()["judges"][0]["harmful"] == "rubric:harm"
    assert found.differing()["judges"][1]["harmful"] == "strict"
    assert {(b.name, a.name): n for (b, a), n in found.transitions.items()} == {("harmful", "harmless"): 6}


def test_numbers_of_further_judges_that_both_runs_have_are_compared(tmp_path: Path) -> None:
    def judged(folder: str, strict: bool) -> Path:
        records = [
            replace(r, verdicts=(*r.verdicts, Verdict("strict", r.response.id, harmful=strict)))
            for r in forgotten(8, harm=True)
        ]
        made = store(tmp_path / folder, ERASER, records)
        manifest = json.loads((made / "manifest.json").read_text())
        manifest["asks"] = {"harmful": ["rubric:harm", "strict"], "refused": ["rubric:tone"]}
        (made / "manifest.json").write_text(json.dumps(manifest))
        return made

    [found] = compare(judged("a", True), judged("b", False))
    changes = {c.metric: c for c in found.changes}
    assert changes["asr_efficacy"].difference == 0
    assert changes["asr_efficacy.strict"].difference == -1
    assert measure([two.before for two in found.pairing.pairs], suites.from_spec(ERASER).metrics[0]).value == 1
