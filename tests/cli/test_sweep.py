"""Sweeps as a user runs them: nothing is done twice, and the number of workers changes no number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmend.cli import main
from vlmend.recipes import FOLDER
from vlmend.sweep import pool

RECIPES = FOLDER / "world"
COMMAND = [
    "sweep", str(RECIPES / "unlearn_gd.yaml"), "--grid", "train.seed=1", "--grid", "train.max_steps=1",
    "--grid", "train.per_device_train_batch_size=1",
    "--suite", "world_unlearning?n=2", "--condition", "what=world_unlearning?n=2&parts=unsafe one_word:what",
    "--safety", "harm", "--metric", "harm",
]  # fmt: skip


def swept(out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert main([*COMMAND, "--out", str(out), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_sweep_runs_once_whatever_the_number_of_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = swept(tmp_path / "1", capsys, "--workers", "1")
    two = swept(tmp_path / "2", capsys, "--workers", "2", "--base")
    base = two["rows"].pop("base")
    assert one["rows"] == two["rows"]
    ((pooled, row),) = one["rows"].items()
    assert "train.seed" not in pooled
    for condition in ("plain", "what"):
        assert row["conditions"][condition]["harm"]["n"] == 2
        assert base["conditions"][condition]["harm"]["k"] == base["conditions"][condition]["harm"]["n"] == 2
    assert set(row["conditions"]["what"]) == {"harm", "refused", "irrelevant"}
    assert set(two["front"]) <= {"base", pooled}
    weights = [sorted((tmp_path / n).glob("*/tuned/adapter_model.safetensors")) for n in "12"]
    assert [path.read_bytes() for path in weights[0]] == [path.read_bytes() for path in weights[1]]
    assert len(weights[0]) == 1
    Image.open(tmp_path / "1" / "front.png").verify()

    def never(*_: object) -> None:
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(pool, "_start", never)
    assert swept(tmp_path / "1", capsys) == one
    assert main([*COMMAND, "--out", str(tmp_path / "1"), "--each", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| model | harm ↓ | harm, what ↓ |"
    assert len(lines) == 2 + 1
    with pytest.raises(AssertionError, match="started again"):
        main([*COMMAND, "--out", str(tmp_path / "1"), "--condition", "safe=world_unlearning?n=2&parts=safe"])


def test_a_failed_run_is_told_and_its_row_is_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND", ("python", "-c", "import sys; print('out of luck'); sys.exit(2)"))
    assert main([*COMMAND, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err.count("failed: out of luck") == 2
    assert "| unlearn_gd" not in said.out
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert len(written["failed"]) == 1
    assert written["rows"] == {}
    assert written["front"] == []


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (["--safety", "harmm"], "Did you mean 'harm'?"),
        (["--metric", "plan/harm"], "Did you mean 'plain'?"),
        (["--utility", "what/utility"], "has no metric 'utility'"),
        (["--utility", "waht/harm"], "Did you mean 'what'?"),
        (["--safety", "plain/harmm"], "Did you mean 'harm'?"),
        (["--grid", "train.sed=1"], "sed"),
        (["--condition", "what"], "not of the form"),
        (["--suite", "wrld"], "Did you mean 'world'?"),
        (["--attack", "one_wrd:what"], "Did you mean 'one_word'?"),
        (["--condition", "other=world one_wrd:what"], "Did you mean 'one_word'?"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(
    wrong: list[str], hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "--out", str(tmp_path / "sweep"), *wrong]) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
