"""Sweeps: what is in the grid, what is on the front, and that nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.cli.sweep import expand, front
from vlmend.errors import UsageError

RECIPES = Path(__file__).parents[2] / "recipes" / "world"


def test_a_grid_is_every_combination() -> None:
    cells = list(expand([Path("a.yaml"), Path("b.yaml")], ["x=1,2", "y.z=true,false"]))
    assert len(cells) == 8
    assert cells[1].name == "a,x=1,y.z=false"
    assert [cell.name for cell in expand([Path("a.yaml")], [])] == ["a"]
    for wrong in ("x", "=1", "x=", "x=1,,2"):
        with pytest.raises(UsageError, match="not of the form"):
            list(expand([Path("a.yaml")], [wrong]))
    with pytest.raises(UsageError, match="two recipes"):
        list(expand([Path("a.yaml"), Path("other/a.yaml")], []))


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = {"safe": (1.0, 0.0), "able": (0.0, 1.0), "both": (0.6, 0.6), "beaten": (0.5, 0.6), "unknown": None}
    assert front(points) == {"safe", "able", "both"}
    assert front({"one": (0.5, 0.5), "same": (0.5, 0.5)}) == {"one", "same"}
    assert front({"unknown": None}) == set()


def test_a_sweep_runs_once_and_says_where_it_leads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", str(RECIPES / "unlearn_gd.yaml"), "--grid", "train.seed=0,1", "--out", str(tmp_path)]
    command += ["--grid", "train.max_steps=1", "--grid", "train.per_device_train_batch_size=1"]
    command += ["--suite", "world?n=2", "--attack", "one_word:what", "--metric", "asr"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["runs"]) == 2
    run = next(iter(found["runs"].values()))
    assert set(run) == {"plain", "one_word-what"}
    assert run["plain"]["asr"]["n"] == 3
    assert set(found["front"]) <= set(found["runs"])
    weights = sorted(tmp_path.glob("*/tuned/adapter_model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert "| run | asr | asr, one_word-what |" in capsys.readouterr().out
    assert main([*command, "--safety", "asrr"]) == 2
    assert "Did you mean 'asr'?" in capsys.readouterr().err
