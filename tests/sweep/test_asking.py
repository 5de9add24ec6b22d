"""How a sweep's questions are asked: options of `eval`, checked before anything is tuned, and told by `--plan`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.evaluate.cells import Asking
from vlmend.recipes import find
from vlmend.sweep.grid import Cell, conditions, identity
from vlmend.sweep.worker import evaluations

COMMON = ["sweep", "world/unlearn_sft", "--grid", "train.seed=0,1", "--suite", "world?n=20", "--attack", "jpeg"]


def test_the_plan_says_what_would_be_done_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    assert main([*COMMON, "--limit", "12", "--out", str(out), "--plan", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == {"open": ["unlearn_sft,train.seed=0", "unlearn_sft,train.seed=1"], "done": 0}
    assert list(told["asked_of_each"]) == ["plain", "jpeg"]
    assert all(max(row["answers"] for row in rows) <= 12 for rows in told["asked_of_each"].values())
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--temperature", "0.5"), "do_sample"), (("--limit", "0"), "limit"), (("--max-new-tokens", "-1"), "max")],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_tuned(
    options: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMON, *options, "--out", str(tmp_path / "s")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_every_condition_is_asked_as_the_sweep_says(tmp_path: Path) -> None:
    asked = conditions("world?n=20", ["jpeg + resize", "none"], [])
    assert list(asked) == ["plain", "jpeg + resize"]
    cell = Cell(find(Path("world/unlearn_sft")))
    few = replace(cell, asking=Asking(limit=5, max_new_tokens=7, batch_size=3))
    made = evaluations(few, tmp_path, asked)
    assert [(c.attack, c.limit, c.max_new_tokens, c.batch_size) for c in made] == [
        ((), 5, 7, 3), (("jpeg", "resize"), 5, 7, 3),
    ]  # fmt: skip
    assert all(c.device == cell.load(tmp_path).model.device for c in made)
    names = {identity(each, tmp_path, asked) for each in (cell, few, replace(cell, asking=Asking()))}
    assert len(names) == 2  # other numbers are another run; what is not given is no part of it
