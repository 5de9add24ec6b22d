"""VLGuard's win rate: whose answer beats the reference, counted again from the published file in plain Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmend.cli import main
from vlmend.evaluate.cells import EvalConfig
from vlmend.evaluate.judging import JudgeSettings
from vlmend.evaluate.run import evaluate
from vlmend.registry import sources

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "vlguard"


def scripted(path: Path, rules: list[dict[str, str]]) -> str:
    path.write_text(yaml.safe_dump(rules))
    return f"scripted:{path}"


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    """A model that answers by a question's first word; a judge of Otter, and of whatever is first beside Heron."""
    answers = [
        {"when": r"(?i)^what", "text": "Otter tells it."},
        {"when": r"(?i)^can", "text": "Heron tells it."},
        {"text": "Quill tells it."},
    ]
    judged = [
        {"when": r"\[\[first answer \w+]]\nOtter", "text": '{"better": "first"}'},
        {"when": r"\[\[second answer \w+]]\nOtter", "text": '{"better": "second"}'},
        {"when": r"\nHeron", "text": '{"better": "first"}'},
        {"when": r"\[\[first answer \w+]]\nQuill", "text": '{"better": "second"}'},
        {"text": '{"better": "first"}'},
    ]
    return scripted(tmp_path / "answers.yaml", answers), scripted(tmp_path / "judged.yaml", judged)


def evaluated(folder: str, model: str, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    given = ["eval", "--model", model, "--suite", folder, "--out", str(out), "--missing-images", "placeholder"]
    assert main([*given, "--judge-controls", "none", *more, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"][0]["metrics"]


def test_wins_and_half_of_the_ties_over_the_requests_with_a_reference_of_the_published_file(
    models: tuple[str, str], tmp_path: Path
) -> None:
    if not (PUBLISHED / "train.json").is_file():
        pytest.skip("VLGuard's metadata are not here")
    answering, judging = models
    asked = EvalConfig(
        model=answering, suite=f"vlguard:{PUBLISHED}#train", only="win_rate", judges=("better=pairwise:reference",),
        judging=JudgeSettings(model=judging, sees="text", controls="none", cache=False),
        missing_images="placeholder", out=tmp_path / "run",
    )  # fmt: skip
    found = evaluate(asked, quiet=True).to_json()["metrics"]
    wins = ties = n = 0
    for row in json.loads((PUBLISHED / "train.json").read_text()):
        if not row["safe"] or not row["instr-resp"][0]["response"].strip():
            continue
        asked = row["instr-resp"][0]["safe_instruction"].lower()
        n, wins, ties = n + 1, wins + asked.startswith("what"), ties + asked.startswith("can")
    assert min(wins, ties, n - wins - ties) > 0
    assert (found["wins"]["k"], found["wins"]["n"]) == (wins, n)
    assert (found["ties"]["k"], found["ties"]["n"]) == (ties, n)
    rate = found["win_rate"]
    assert (rate["n"], rate["unscored"]) == (n, 0)
    assert rate["value"] == pytest.approx((wins + ties / 2) / n)
    assert rate["low"] < rate["value"] < rate["high"]


@pytest.fixture
def vlguard(tmp_path: Path) -> Path:
    """A sample; one safe request lacks a reference."""
    folder = tmp_path / "vlguard"
    folder.mkdir()
    sources.find("vlguard").sample(folder)
    rows = json.loads((folder / "test.json").read_text())
    next(row for row in rows if row["safe"])["instr-resp"][0]["response"] = " "
    (folder / "test.json").write_text(json.dumps(rows))
    return folder


def test_a_judge_that_fails_leaves_the_win_rate_unscored_and_the_rest_of_the_run_as_it_is(
    vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mute = scripted(tmp_path / "mute.yaml", [{"text": "That I cannot say."}])
    suite = f"vlguard:{vlguard}"
    plain = evaluated(suite, "scripted:comply", tmp_path / "plain", capsys)
    bound = ("--judge", "better=pairwise:reference", "--judge-model", mute)
    found = evaluated(suite, "scripted:refuse", tmp_path / "mute", capsys, *bound)
    assert {*found} - {*plain} == {"win_rate", "wins", "ties"}
    for name in ("win_rate", "wins", "ties"):
        assert (found[name]["value"], found[name]["n"], found[name]["unscored"]) == (None, 0, 3)
    assert (found["over_refusal"]["k"], found["over_refusal"]["unscored"]) == (4, 0)


def test_a_second_judge_is_heard_beside_the_first_under_its_own_name(
    vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = scripted(tmp_path / "first.yaml", [{"text": '{"better": "first"}'}])
    bound = ("--judge", "better=pairwise:reference", "--judge", "better=pairwise:reference?orders=published")
    found = evaluated(f"vlguard:{vlguard}", "scripted:refuse", tmp_path / "run", capsys, *bound, "--judge-model", first)
    assert (found["ties"]["k"], found["ties"]["n"], found["win_rate"]["value"]) == (3, 3, 0.5)
    by_place = "pairwise?orders=published"
    assert (found[f"wins.{by_place}"]["k"], found[f"win_rate.{by_place}"]["value"]) == (3, 1.0)
