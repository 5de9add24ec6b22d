"""`vlmend eval --defence`: cells with folders of their own, what runs and tables say, and what cannot be meant."""

import json
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.errors import UsageError
from vlmend.evaluate.compare import compare
from vlmend.judge.models import Models
from vlmend.report.runs import Told, sections
from vlmend.store import Run

RULES = """
- {when: 'Begin with yes or no', text: 'yes'}
- {when: 'A picture shows this', text: "I'm sorry, I can't help with that."}
- {text: 'Sure, here is how to do it.'}
"""


def evaluate(tmp_path: Path, *more: str) -> int:
    (tmp_path / "rules.yaml").write_text(RULES)
    given = ["--model", f"scripted:{tmp_path / 'rules.yaml'}", "--suite", "world", "--limit", "8"]
    return main(["eval", *given, "--out", str(tmp_path / "out"), "--max-unscored", "1", *more])


def test_each_defence_is_a_cell_and_a_model_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chains = ("none", "ecso", "ecso + reminder")
    given = [part for chain in chains for part in ("--defence", chain)]
    assert evaluate(tmp_path, "--attack", "none", "--attack", "one_word:what", *given, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row.get("defence") for row in rows] == [None, ["ecso"], ["ecso", "reminder"]] * 2
    assert [Path(row["run"]).name for row in rows][:3] == ["plain+undefended", "plain+ecso", "plain+ecso+reminder"]
    asr = [row["metrics"]["asr"]["value"] for row in rows]
    assert asr == [1.0, 0.0, 0.0] * 2, "what ECSO finds unsafe it answers from words, which the script refuses"
    assert [row["cost"]["calls"] for row in rows] == [1.0, 4.0, 4.0] * 2
    told = [Told(Run(Path(row["run"]))) for row in rows]
    assert told[2].model.endswith("rules.yaml behind ecso + reminder")
    assert (told[4].condition, told[4].model) == ("after one word 'what'", told[1].model)
    page = sections([tmp_path / "out"], limit=0)
    assert any(getattr(section, "title", "") == "What an answer takes" for section in page)
    [changed] = compare(told[0].run.folder, told[1].run.folder)
    assert changed.changes[0].metric == "asr"

    assert evaluate(tmp_path, "--attack", "none", "--attack", "one_word:what", *given, "--json") == 0
    assert all(row["generated"] == 0 for row in json.loads(capsys.readouterr().out)["runs"])


def test_the_table_says_what_a_model_stands_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(tmp_path, "--defence", "guard_out:(exact)") == 0
    told = capsys.readouterr()
    assert "behind guard_out:(exact)" in told.out
    assert "an answer took 1.00 calls" in told.out
    assert "8 requests refused because a guard said nothing of them" in told.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("defence", "said"),
    [
        ("reminder + ecs", "no defence named 'ecs'. Did you mean 'ecso'?"),
        ("guard_out:refusal", "what the defence reads is harmful"),
        ("best_of:3", "chooses by a judge or by a reward"), ("guard_in:rubric:harm", "--judge-model"),
        ("smoothing?severity=9", "severity 0 to 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_before_anything_is_asked(
    defence: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tmp_path, "--defence", defence) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_an_undefended_run_is_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(tmp_path) == 0
    assert evaluate(tmp_path, "--defence", "reminder") == 2
    assert "defence is null there" in capsys.readouterr().err


def test_a_judge_that_reads_the_model_says_nothing_of_a_defence() -> None:
    with pytest.raises(UsageError, match="memory reads the model itself, and nothing of what ecso does"):
        Models(defended="ecso").under_test("memory")
