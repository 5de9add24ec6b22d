"""Results of other evaluators: their numbers come out equal, with what they are, and nothing is made up."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from vlmend.cli import main
from vlmend.evaluate.compare import compare
from vlmend.evaluate.imported import read, write
from vlmend.metrics.intervals import wilson
from vlmend.store import Run


def lmms(
    folder: Path, task: str, samples: list[dict[str, Any]] | None, results: dict[str, Any],
    listed: list[dict[str, Any]], *, model: str = "weights", at: str = "20260101_000000",
) -> Path:  # fmt: skip
    """As lmms-eval 0.7.3 lays it out."""
    place = folder / model
    place.mkdir(parents=True, exist_ok=True)
    higher = {entry["metric"]: entry.get("higher_is_better", True) for entry in listed}
    (place / f"{at}_results.json").write_text(json.dumps({
        "results": {task: {"alias": task, **results}}, "higher_is_better": {task: higher},
        "configs": {task: {"metric_list": listed, "generation_kwargs": {"max_new_tokens": 16}}},
        "n-samples": {task: {"original": 4, "effective": 4}}, "config": {"model_args": "x", "limit": None},
        "model_name": model,
    }))  # fmt: skip
    if samples is not None:
        lines = (json.dumps(row, ensure_ascii=False) for row in samples)
        (place / f"{at}_samples_{task}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def sample(number: int, said: Any, **numbers: Any) -> dict[str, Any]:
    return {
        "doc_id": number, "target": "yes", "filtered_resps": said, "input": f"is it {number}?", "doc_hash": "0",
        "token_counts": [{"output_tokens": 3}], **numbers,
    }  # fmt: skip


MEAN = [{"metric": "exact_match", "aggregation": "mean"}]


def test_a_mean_of_yes_and_no_is_a_rate(tmp_path: Path) -> None:
    rows = [sample(n, "yes", exact_match=float(n != 2)) for n in range(4)]
    lmms(tmp_path / "in", "t", rows, {"exact_match,none": 0.75, "exact_match_stderr,none": 0.25}, MEAN)
    [task] = read(tmp_path / "in")
    found = write(task, tmp_path / "out").metrics
    assert set(found) == {"exact_match"}  # a standard error is no number of its own
    rate = found["exact_match"]
    assert (rate.k, rate.n, rate.unscored) == (3, 4, 0)
    assert (rate.low, rate.high) == wilson(3, 4)
    [first, *_] = Run.open(tmp_path / "out").records()
    assert (first.example.question, first.example.answers, first.response.text) == ("is it 0?", ("yes",), "yes")
    assert first.response.tokens == 3


def test_what_is_no_mean_of_its_samples_is_a_total_without_interval(tmp_path: Path) -> None:
    """F1 of samples that hold whether each was right; accuracy beside it is their mean."""
    rows = [
        sample(n, "yes", acc={"score": score, "category": "c"}, f1={"score": score})
        for n, score in enumerate((1.0, 1.0, 0.0, 1.0))
    ]
    listed = [{"metric": m, "aggregation": "<function f at 0x7f>"} for m in ("acc", "f1")]
    lmms(tmp_path / "in", "t", rows, {"acc,none": 0.75, "f1,none": 0.8}, listed)
    found = write(read(tmp_path / "in")[0], tmp_path / "out").metrics
    assert (found["acc"].k, found["acc"].n) == (3, 4)
    assert (found["f1"].value, found["f1"].low, found["f1"].n) == (0.8, None, 4)
    assert Run.open(tmp_path / "out").records()[0].example.category == "c"


def test_totals_are_not_taken_for_rates_in_comparisons(tmp_path: Path) -> None:
    """In one run all are right, so that accuracy and F1 agree; in the other F1 is no share of anything."""
    listed = [{"metric": "f1", "aggregation": "<function f at 0x7f>"}]
    for name, scores, total in (("a", (1.0, 1.0), 1.0), ("b", (1.0, 0.0), 0.67)):
        rows = [sample(n, "yes", f1={"score": s}) for n, s in enumerate(scores)]
        lmms(tmp_path / name, "t", rows, {"f1,none": total}, listed)
        write(read(tmp_path / name, "m")[0], tmp_path / f"{name}.run")
    for one, other, change in (("a", "b", -0.33), ("b", "a", 0.33)):
        [found] = compare(tmp_path / f"{one}.run", tmp_path / f"{other}.run")
        [row] = found.changes
        assert row.after - row.before == pytest.approx(change)


def test_low_is_good_where_the_evaluator_says_so(tmp_path: Path) -> None:
    listed = [{"metric": "error", "aggregation": "mean", "higher_is_better": False}]
    lmms(tmp_path / "in", "t", [sample(0, "x", error=1.0), sample(1, "x", error=0.0)], {"error,none": 0.5}, listed)
    result = write(read(tmp_path / "in")[0], tmp_path / "out")
    assert [m.better for m in result.measured] == ["low"]


def test_a_sample_without_a_number_is_unscored(tmp_path: Path) -> None:
    rows = [sample(0, "a", exact_match=1.0), sample(1, "b", exact_match=None), sample(2, "c", exact_match=0.0)]
    lmms(tmp_path / "in", "t", rows, {"exact_match,none": 0.5}, MEAN)
    rate = write(read(tmp_path / "in")[0], tmp_path / "out").metrics["exact_match"]
    assert (rate.k, rate.n, rate.unscored) == (1, 2, 1)


def test_without_samples_the_totals_are_kept(tmp_path: Path) -> None:
    lmms(tmp_path / "in", "t", None, {"exact_match,none": 0.5, "mme_score,none": 1432.5}, MEAN)
    found = write(read(tmp_path / "in")[0], tmp_path / "out").metrics
    assert {name: (m.value, m.low) for name, m in found.items()} == {
        "exact_match": (0.5, None),
        "mme_score": (1432.5, None),
    }


def test_several_answers_to_one_question(tmp_path: Path) -> None:
    lmms(tmp_path / "in", "t", [sample(0, ["a", "b"], exact_match=0.5)], {"exact_match,none": 0.5}, MEAN)
    write(read(tmp_path / "in")[0], tmp_path / "out")
    assert [(r.response.sample, r.response.text) for r in Run.open(tmp_path / "out").records()] == [(0, "a"), (1, "b")]


def test_again_adds_nothing_and_other_results_are_refused(tmp_path: Path) -> None:
    rows = [sample(0, "yes", exact_match=1.0)]
    folder = lmms(tmp_path / "in", "t", rows, {"exact_match,none": 1.0}, MEAN)
    words = ["utility", "import", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = {f.name: f.read_bytes() for f in (tmp_path / "out" / "t").glob("*.jsonl")}
    assert main(words) == 0
    assert {f.name: f.read_bytes() for f in (tmp_path / "out" / "t").glob("*.jsonl")} == before
    lmms(tmp_path / "in", "t", [sample(0, "no", exact_match=0.0)], {"exact_match,none": 0.0}, MEAN)
    assert main(words) == 2
    assert {f.name: f.read_bytes() for f in (tmp_path / "out" / "t").glob("*.jsonl")} == before


def test_what_is_no_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no results")):
        assert main(["utility", "import", str(path), "--out", str(tmp_path / "o")]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert len(told.splitlines()) == 1
    assert main(["eval", "--model", "scripted:comply", "--suite", "imported:t", "--out", str(tmp_path / "o")]) == 2
    assert "utility import" in capsys.readouterr().err


def test_two_results_of_one_task_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at in ("20260101_000000", "20260102_000000"):
        lmms(tmp_path / "in", "t", [sample(0, "a", exact_match=1.0)], {"exact_match,none": 1.0}, MEAN, at=at)
    assert main(["utility", "import", str(tmp_path / "in"), "--out", str(tmp_path / "o")]) == 2
    assert "two results of t" in capsys.readouterr().err


def sheet(path: Path, rows: list[dict[str, Any]]) -> None:
    """One table in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".xlsx":
        book = Workbook()
        book.active.append(list(rows[0]))
        for row in rows:
            book.active.append(list(row.values()))
        book.save(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with path.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("ending", ["xlsx", "tsv", "csv", "json"])
def test_vlmevalkit(tmp_path: Path, ending: str) -> None:
    """Predictions, a judged table beside them (one row for two orders of a question), and the numbers of a split."""
    place = tmp_path / "outputs" / "My_Model"
    rows = [
        {"index": n, "question": f"q{n}", "answer": "A", "category": "c1" if n < 2 else "c2", "prediction": "A"}
        for n in (0, 1, 2, 1000000)
    ]  # fmt: skip
    sheet(place / f"My_Model_MMBench_DEV_EN.{ending}", rows)
    sheet(
        place / f"My_Model_MMBench_DEV_EN_gpt_result.{ending}",
        [{**row, "hit": int(row["index"] != 1)} for row in rows[:3]],
    )
    sheet(place / "My_Model_MMBench_DEV_EN_acc.csv", [{"split": "dev", "Overall": 2 / 3, "c1": 0.5, "c2": 1.0}])
    [task] = read(tmp_path / "outputs")
    assert (task.model, task.name) == ("My_Model", "MMBench_DEV_EN")
    result = write(task, tmp_path / "run")
    found = result.metrics
    assert (found["hit"].k, found["hit"].n) == (2, 3)
    assert {name: found[name].value for name in ("Overall", "c1", "c2")} == {"Overall": 2 / 3, "c1": 0.5, "c2": 1.0}
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert stored["categories"]["hit"]["c1"]["k"] == 1
    assert not any(math.isinf(v) for v in [found["hit"].value, found["Overall"].value])


def test_vlmevalkit_without_its_folder_needs_the_models_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet(
        tmp_path / "in" / "M_MME.tsv", [{"index": 0, "question": "q", "answer": "Yes", "prediction": "Yes", "score": 1}]
    )
    words = ["utility", "import", str(tmp_path / "in" / "M_MME.tsv"), "--out", str(tmp_path / "o")]
    assert main(words) == 2
    assert "--model" in capsys.readouterr().err
    assert main([*words, "--model", "M"]) == 0
    assert Run.open(tmp_path / "o" / "MME").settings()["model"] == "M"
