"""Averages of several sets: by hand, never over what is missing, with the interval of a sum of independent numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from vlmend.cli import main
from vlmend.errors import UnknownName, UsageError
from vlmend.evaluate.averages import Averaged, Part, average, find
from vlmend.metrics.intervals import wilson
from vlmend.store import Run

SETS = {
    "gqa": "accuracy.na_wrong", "vizwiz": "accuracy.na_wrong", "scienceqa": "accuracy.na_wrong",
    "vqav2": "accuracy.na_wrong", "pope": "f1", "mmvet": "score", "mmbench": "circular.na_wrong",
}  # fmt: skip


def made(folder: Path, suite: str, metric: str, value: float, *, model: str = "m", **more: Any) -> Run:
    """A scored run."""
    run = Run(folder)
    settings = {"model": model, "suite": suite, "protocol": "default", "sources": [], "attack": [], **more}
    run.claim(settings, {"suite_spec": f"{suite}:data"})
    low, high = wilson(round(100 * min(value, 1)), 100) or (None, None)
    row = {"n": 100, "unscored": 0, "value": value, "low": low, "high": high, "worst": value}
    run.write_metrics({"metrics": {metric: {**row, "scale": [0, 1], "additive": True}}, "categories": {}})
    return run


def all_sets(top: Path, **more: Any) -> list[Run]:
    return [made(top / name, name, metric, k / 10, **more) for k, (name, metric) in enumerate(SETS.items(), 1)]


def test_the_mean_of_all_seven_sets(tmp_path: Path) -> None:
    [found] = average(find("specificity"), all_sets(tmp_path))
    assert list(found.parts) == ["GQA", "VizWiz", "SQA", "VQAv2", "POPE", "MM-Vet", "MMBench"]
    assert found.value == pytest.approx(sum(range(1, 8)) / 70)
    value, (low, high) = found.value or 0.0, found.interval or (0, 0)
    below = math.hypot(*(k / 10 - (wilson(10 * k, 100) or (0, 0))[0] for k in range(1, 8))) / 7
    assert value - low == pytest.approx(below)
    assert low < value < high


def test_there_is_no_average_where_a_set_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = all_sets(tmp_path)[:-1]
    [found] = average(find("specificity"), runs)
    assert (found.value, found.interval, found.missing) == (None, None, ["MMBench"])
    assert main(["utility", "average", str(tmp_path)]) == 0
    assert "MMBench" in capsys.readouterr().out


def test_a_set_of_another_evaluator_counts_and_hundreds_become_shares(tmp_path: Path) -> None:
    runs = [run for run in all_sets(tmp_path) if run.settings()["suite"] not in ("mmvet", "vqav2")]
    runs.append(made(tmp_path / "a", "imported", "gpt_eval_score", 40.0, protocol="mmvet"))
    runs.append(made(tmp_path / "b", "imported", "exact_match", 0.5, protocol="vqav2_val"))
    [found] = average(find("specificity"), runs)
    assert (found.parts["MM-Vet"].value, found.parts["VQAv2"].value) == (0.4, 0.5)
    assert found.missing == []


def test_attacked_runs_do_not_count_and_models_stand_apart(tmp_path: Path) -> None:
    runs = [*all_sets(tmp_path / "m"), made(tmp_path / "x", "gqa", "accuracy.na_wrong", 0.0, attack=["jpeg"])]
    runs += all_sets(tmp_path / "n", model="n")[:2]
    first, second = average(find("specificity"), runs)
    assert first.value == pytest.approx(0.4)
    assert (second.model, len(second.missing)) == ("n", 5)


def test_two_runs_of_one_set_are_refused(tmp_path: Path) -> None:
    runs = [*all_sets(tmp_path / "m"), made(tmp_path / "again", "gqa", "accuracy.na_wrong", 0.2)]
    with pytest.raises(UsageError, match="GQA of m is in"):
        average(find("specificity"), runs)
    with pytest.raises(UnknownName, match="specificity"):
        find("specifity")


def test_one_set_has_its_own_interval_and_more_sets_a_narrower_one() -> None:
    part = Part(0.5, 0.4, 0.6, 100, 0, "run", "accuracy")
    assert Averaged("m", {"a": part}, []).interval == pytest.approx((0.4, 0.6))
    assert Averaged("m", dict.fromkeys("abcd", part), []).interval == pytest.approx((0.45, 0.55))
    bare = Part(0.5, None, None, 100, 0, "run", "accuracy")
    assert Averaged("m", {"a": part, "b": bare}, []).interval is None
