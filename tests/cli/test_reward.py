"""`vlmend reward` as a user meets it, and a reward that would judge itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vlmend.cli import main

DATA = "world:preference#test?n=24"


def test_one_object_with_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", "judge:refusal", "--data", DATA, "--by", "subset", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["k"] == found["accuracy"]["n"] == 24
    assert set(found["groups"]) == {"safe_safe", "unsafe", "safe_unsafe", "pair"}
    assert sum(group["n"] for group in found["groups"].values()) == 24
    assert found["margin"]["mean"] == 2.0
    assert main(["reward", "judge:refusal", "--data", DATA]) == 0
    shown = capsys.readouterr().out
    assert "24/24" in shown
    assert "mean margin 2, 0 ties" in shown


def test_too_little_agreement_and_too_much_that_is_unscored_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    contrary = ["reward", "judge:(refusal)?good=-1&bad=1", "--data", DATA]
    assert main(contrary) == 0
    assert main([*contrary, "--least", "0.5"]) == 1
    assert "accuracy 0.0 % is below --least 0.5" in capsys.readouterr().err
    assert main(["reward", "rule", "--data", DATA]) == 1  # no references, so safe requests are unscored
    assert "50.0 % of the pairs could not be scored" in capsys.readouterr().err
    assert main(["reward", "rule?match=refusal", "--data", DATA, "--least", "1"]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["judge:refusl", "--data", DATA], "no judge named 'refusl'. Did you mean 'refusal'"),
        (["model:/nowhere", "--data", DATA], "/nowhere does not exist: there is no head.json"),
        (["judge:refusal", "--data", "world:safety?n=4"], "holds examples; preference pairs"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_sweep_of_a_reward_under_its_own_judge_is_refused_before_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {
        "model": {"name": "world"},
        "method": {"name": "grpo", "rewards": [{"reward": "rule"}]},
        "data": {"mix": [{"source": "world:safety?n=4"}]},
        "output": {"dir": str(tmp_path / "tuned")},
    }
    (tmp_path / "grpo.yaml").write_text(yaml.safe_dump(recipe))
    words = ["sweep", str(tmp_path / "grpo.yaml"), "--suite", "world?n=2", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "judge refusal is a reward of method grpo (rule)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
