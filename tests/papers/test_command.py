"""`vlmend paper`: bad input is one line, what is stopped goes on, and a plan asks nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.errors import UsageError
from vlmend.evaluate.cells import EvalConfig
from vlmend.papers.paper import read
from vlmend.papers.run import Request, folders, labeled


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["vlgard"], "Did you mean 'vlguard'?"),
        (["vlguard", "--data", "vlgard=d", "--model", "m"], "Did you mean 'vlguard'?"),
        (["vlguard", "--data", "d", "--model", "m"], "KEY=DIR"),
        (["vlguard", "--data", "advbench=d"], "--model"),
        (["vlguard", "--model", "scripted:refuse"], "needs --data vlguard=DIR"),
        (
            ["vlguard", "--data", "advbench={empty}", "--model", "scripted:refuse"],
            "data/advbench/harmful_behaviors.csv",
        ),
        (
            ["vlguard", "--data", "advbench={advbench}", "--model", "scripted:refuse", "--judge", "right=exact"],
            "refused",
        ),
        (["mis", "--data", "mis={mis}", "--model", "scripted:refuse"], "--judge-model"),
        (["vlguard", "--data", "advbench={advbench}", "--model", "a=x", "--model", "a=y"], "'a'"),
    ],
)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(
    words: list[str], says: str, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(empty=tmp_path, advbench=data["advbench"], mis=data["mis"]) for word in words]
    assert main(["paper", *given, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_label_stands_before_a_spec_whose_options_have_signs_of_their_own() -> None:
    assert labeled(["a=world", "hf:x?dtype=bfloat16", "b=openai:n@http://h?budget=2"]) == {
        "a": "world",
        "hf:x?dtype=bfloat16": "hf:x?dtype=bfloat16",
        "b": "openai:n@http://h?budget=2",
    }
    with pytest.raises(UsageError, match="twice"):
        folders(read("vlguard"), ["vlguard=a", "vlguard=b"])


def words(data: dict[str, Path], out: Path, model: str) -> list[str]:
    given = [part for key in ("vlguard", "advbench") for part in ("--data", f"{key}={data[key]}")]
    return ["paper", "vlguard", *given, "--model", f"m={model}", "--out", str(out)]


def test_columns_without_their_folder_say_so_and_the_others_are_run(
    data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(data, tmp_path, "scripted:comply"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {*told["runs"]["m"]} == {"vlguard", "advbench", "advbench_suffix"}
    assert told["left_out"]["figstep"] == "needs --data figstep=DIR"
    columns = {column["name"]: column for column in told["tables"][0]["columns"]}
    assert columns["FigStep"]["not_run"] == "needs --data figstep=DIR"
    assert not columns["Unsafe"]["not_run"]
    ours = told["tables"][0]["rows"][0]["cells"]
    assert (ours["Unsafe"]["k"], ours["Unsafe"]["n"]) == (4, 4)  # who complies serves every request
    assert "FigStep: not run: needs --data figstep=DIR" in (tmp_path / "tables.md").read_text()


def test_stand_ins_for_pictures_are_said_of_every_table(
    data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.json").write_text((data["vlguard"] / "test.json").read_text())
    given = ["paper", "vlguard", "--data", f"vlguard={tmp_path}", "--model", "scripted:refuse"]
    assert main([*given, "--missing-images", "placeholder", "--out", str(tmp_path / "out"), "--json"]) == 0
    [warning] = json.loads(capsys.readouterr().out)["warnings"]
    assert "8" in warning
    for name in ("tables.md", "tables.html"):
        assert warning in (tmp_path / "out" / name).read_text()


def test_a_users_judge_takes_the_place_of_the_papers(
    data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(data, tmp_path, "scripted:refuse")
    assert main([*given, "--judge", "refused=refusal", "--out", str(tmp_path / "o"), "--json"]) == 0
    asks = json.loads((tmp_path / "o" / "m" / "advbench" / "manifest.json").read_text())["asks"]
    assert asks == {"refused": ["refusal"]}


def test_a_plan_counts_and_asks_nothing(
    data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(data, tmp_path / "out", "scripted:comply"), "--plan", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["answers"]
    assert rows[f"vlguard:{data['vlguard']}#test · none"] == {"answers": 12, "calls": 12, "looks": 0, "pictures": 8}
    assert rows[f"source:advbench:{data['advbench']} · prefix_injection"] == {
        "answers": 8,
        "calls": 8,
        "looks": 0,
        "pictures": 0,
    }
    assert not (tmp_path / "out").exists()


def test_what_was_killed_goes_on_and_nothing_is_asked_twice(data: dict[str, Path], tmp_path: Path) -> None:
    script = tmp_path / "slow.yaml"
    script.write_text("- {text: 'Yes, a ring.'}\n")
    slow = words(data, tmp_path / "stopped", f"scripted:{script}?seconds=0.1")
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmend", *slow], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    answers = tmp_path / "stopped" / "m" / "vlguard" / "responses.jsonl"
    deadline = time.monotonic() + 120
    while not (answers.exists() and len(answers.read_text().splitlines()) >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = answers.read_text().splitlines()[:3]
    assert main(slow) == 0
    assert main([*slow[:-1], str(tmp_path / "whole")]) == 0
    assert answers.read_text().splitlines()[:3] == before
    for run in (tmp_path / "stopped" / "m").iterdir():
        for name, key in (("responses.jsonl", "id"), ("verdicts.jsonl", "judge")):
            rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
            there = [(row.get("response_id", ""), row[key]) for row in rows]
            assert len({*there}) == len(there)
    assert (tmp_path / "stopped" / "tables.md").read_text() == (tmp_path / "whole" / "tables.md").read_text()
    assert (tmp_path / "stopped" / "tables.csv").read_text() == (tmp_path / "whole" / "tables.csv").read_text()


def test_metadata_is_read_once_however_often_it_is_asked_about(
    data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmend import data as reading

    seen: list[str] = []
    honest = reading.read
    monkeypatch.setattr(reading, "read", lambda spec: seen.append(spec) or honest(spec))
    more = ["--model", "n=scripted:refuse"]
    for plan in (["--plan"], []):
        seen.clear()
        assert main([*words(data, tmp_path, "scripted:comply"), *more, *plan, "--json"]) == 0
        assert sorted(seen) == [f"advbench:{data['advbench']}", f"vlguard:{data['vlguard']}#test"]


def test_a_judge_that_some_ask_wants_takes_the_place_of_none_of_the_others(tmp_path: Path) -> None:
    paper = read("mis")
    base = EvalConfig(model="", suite="", out=tmp_path, judges=("harmful=guard:G", "refused=refusal:vlguard"))
    request = Request(paper, {"m": "scripted:refuse"}, {key: tmp_path for key in paper.needs}, base)
    given = {key: request.config("m", key, ask).judges for key, ask in request.asks.items()}
    assert {key for key, judges in given.items() if "harmful=guard:G" in judges} == {
        key for key, ask in paper.asks.items() if ask.wants
    }
    assert given["siuo_harm"] == ("harmful=rubric:harm", "refused=refusal:vlguard")
    assert given["mis"] == ()
