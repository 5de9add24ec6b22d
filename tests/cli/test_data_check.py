from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.data.files import REAL, write_jsonl
from tests.data.test_check import row, scene
from vlmend.cli import main
from vlmend.cli.data import app
from vlmend.cli.data import check as command
from vlmend.data import read


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["check", *args], catch_exceptions=False)


def rows(folder: Path, *more: dict[str, Any]) -> str:
    return f"jsonl:{write_jsonl(folder / 'rows.jsonl', [row(0), row(1), *more])}"


def test_a_sound_set_exits_with_0(tmp_path: Path) -> None:
    result = run(rows(tmp_path), "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert list(report) == ["source", "against", "examples", "errors", "warnings", "notes", "problems", "fixed"]
    assert (report["examples"], report["problems"], report["fixed"]) == (2, [], None)


def test_warnings_exit_with_0_and_errors_with_1(tmp_path: Path) -> None:
    assert run(rows(tmp_path, row(2, prompt="N/A"))).exit_code == 0
    spec = rows(tmp_path, row(2, prompt="N/A"), row(3, image="none.png"))
    result = run(spec, "--json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert [list(problem) for problem in problems] == [["kind", "severity", "count", "ids", "message"]] * 2
    assert [(p["kind"], p["severity"], p["count"], p["ids"]) for p in problems] == [
        ("missing_picture", "error", 1, ["r3"]),
        ("placeholder_question", "warning", 1, ["r2"]),
    ]
    assert run(spec, "--ignore", "missing_picture").exit_code == 0


def test_people_see_5_ids_and_programs_all(tmp_path: Path) -> None:
    spec = rows(tmp_path, *(row(i, prompt="N/A", answer=f"Answer {i}.") for i in range(2, 30)))
    text = run(spec).stdout
    assert "28 questions are placeholders" in text
    assert "r6  … and 23 more" in text
    assert "r7" not in text
    assert len(json.loads(run(spec, "--json").stdout)["problems"][0]["ids"]) == 28


def test_a_cleaned_copy(tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl"
    result = run(rows(tmp_path, row(2, prompt="N/A"), row(3, answer="I cannot do that.")), "--fix", str(out))
    assert result.exit_code == 0
    assert "3 examples written" in result.stdout
    assert [e.id for e in read(f"jsonl:{out}")] == ["r0", "r1", "r3"]
    again = run(f"jsonl:{out}", "--fix", str(tmp_path / "b.jsonl"), "--drop", "unexpected_refusal", "--json")
    assert json.loads(again.stdout)["fixed"]["kept"] == 2
    assert json.loads((tmp_path / "b.dropped.jsonl").read_text())["kinds"] == ["unexpected_refusal"]


def test_a_copy_without_leaks(tmp_path: Path) -> None:
    other = tmp_path / "test.jsonl"
    write_jsonl(other, [row(0, prompt="Where is disc 1?")])
    out = tmp_path / "clean.jsonl"
    result = run(rows(tmp_path), "--against", f"jsonl:{other}", "--fix", str(out))
    assert result.exit_code == 1
    assert "leaked_example" in result.stdout
    assert [e.id for e in read(f"jsonl:{out}")] == ["r0"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("jsonl:nowhere.jsonl",), "nowhere.jsonl"),
        (("vlgard:x",), "Did you mean 'vlguard'"),
        (("world:safe?n=2", "--ignore", "blank"), "no kind of finding named 'blank'. Did you mean 'blank_picture'"),
        (("world:safe?n=2", "--fix", "out.json"), "name it out.jsonl"),
        (("world:safe?n=2", "--against", "jsonl:nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_bad_usage_is_one_line(args: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", *args]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_progress_is_told_on_stderr_when_it_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(scene(number))
    spec = rows(tmp_path, *(row(i + 2, image=f"{i}.png") for i in range(3)))
    assert run(spec).stderr == ""
    monkeypatch.setattr(command, "PATIENCE", -1.0)
    result = run(spec, "--json")
    assert "pictures: 1/3" in result.stderr
    json.loads(result.stdout)


def test_what_no_terminal_can_show_is_shown_somehow(tmp_path: Path) -> None:
    spec = rows(tmp_path, row(2, id="r\ud800", prompt="half \ud83d"))
    assert run(spec).exit_code == 1
    assert json.loads(run(spec, "--json").stdout)["problems"][0]["ids"] == ["r\ud800"]


@pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")
def test_defects_of_the_published_metadata() -> None:
    report = json.loads(run(f"vlguard:{REAL}#train", "--json").stdout)
    counts = {problem["kind"]: problem["count"] for problem in report["problems"]}
    assert (counts["duplicate_id"], counts["picture_listed_twice"], counts["placeholder_question"]) == (1, 1, 16)
    found = [counts.get(kind, 0) for kind in ("boilerplate_answer", "unexpected_refusal", "missing_refusal")]
    assert found == [69, 8, 0]
