"""Defences as conditions of sweeps and behind a mirage, and what a plan says of them beforehand."""

import json
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.errors import UnknownName
from vlmend.evaluate.cells import EvalConfig, cells
from vlmend.evaluate.judging import Amount
from vlmend.evaluate.run import plan
from vlmend.sweep.grid import PLAIN, Condition, conditions


def test_a_sweep_asks_under_each_attack_behind_each_defence() -> None:
    found = conditions(
        "world", ["one_word:what"], ["mine=world one_word:how reminder ecso"], ["reminder", "ecso + reminder"]
    )
    assert list(found) == [
        PLAIN, "one_word-what", "behind-reminder", "one_word-what+behind-reminder", "behind-ecso + reminder",
        "one_word-what+behind-ecso + reminder", "mine",
    ]  # fmt: skip
    assert found["one_word-what+behind-reminder"] == Condition("world", ("one_word:what",), ("reminder",))
    assert found["mine"] == Condition("world", ("one_word:how",), ("reminder", "ecso"))
    assert all(Condition.of(asks.words) == asks for asks in found.values())
    with pytest.raises(UnknownName, match="remind"):
        conditions("world", [], ["mine=world remind"])


def test_a_plan_counts_what_defences_ask_at_most(tmp_path: Path) -> None:
    config = EvalConfig(model="scripted:refuse", suite="world", out=tmp_path, limit=6)
    found = plan(cells(config, defences=["none", "ecso", "smoothing:3 + ecso"]))
    assert [(a.answers, a.calls, a.looks) for a in found.asked.values()] == [(6, 6, 0), (6, 24, 0), (6, 72, 18)]
    assert isinstance(next(iter(found.asked.values())), Amount)


def test_a_dry_run_counts_calls_of_a_server_behind_a_defence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["generate", "--model", "openai:m@http://127.0.0.1:9/v1", "--suite", "world", "--limit", "4", "--dry-run"]
    assert main([*given, "--out", str(tmp_path / "out"), "--defence", "none", "--defence", "ecso", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["models"].values()
    assert row["calls"] == 4 + 4 * 4


def test_a_mirage_behind_a_defence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["mirage", "--model", "scripted:comply", "--suite", "world", "--limit", "4", "--samples", "0"]
    words = ["--opening", "what", "--closing", "share", "--shots", "1"]
    assert main([*given, *words, "--defence", "caption_first", "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["defence"] == "caption_first"
    runs = list((tmp_path / "out").rglob("exchanges.jsonl"))
    assert len(runs) == 5
    assert "scripted:comply behind caption_first" in Path(told["report"]).read_text()
