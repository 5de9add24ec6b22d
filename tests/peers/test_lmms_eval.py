"""A real lmms-eval on a task of our own with the embedded model: what it writes is read, and its numbers are equal."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from vlmend import data
from vlmend.cli import main
from vlmend.evaluate.imported import read, write
from vlmend.store import Run
from vlmend.types import Mean, Rate

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lmms_eval") is None, reason="lmms-eval is not installed: make test-peers"
)

TASKS = {
    "world_words": ("  - {metric: exact_match, aggregation: mean, higher_is_better: true}", ""),
    "world_there": (
        "  - {metric: acc, aggregation: !function utils.share, higher_is_better: true}\n"
        "  - {metric: f1, aggregation: !function utils.f1, higher_is_better: true}",
        "process_results: !function utils.marks",
    ),
}
UTILS = """
def visual(doc): return [doc["image"].convert("RGB")]
def marks(doc, results):
    mark = {"said": results[0].startswith("T"), "true": doc["answer"].startswith("T")}
    mark["score"] = float(mark["said"] == mark["true"])
    return {"acc": mark, "f1": mark}
def share(marks): return sum(m["score"] for m in marks) / len(marks)
def f1(marks):
    both = sum(m["said"] and m["true"] for m in marks)
    return 2 * both / max(1, sum(m["said"] for m in marks) + sum(m["true"] for m in marks))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 questions about pictures, in two tasks, asked by lmms-eval."""
    top = tmp_path_factory.mktemp("lmms")
    examples = [e for e in data.load("world:utility#test?n=60").examples if len(e.images) == 1][:24]
    columns = {
        "question": [e.question for e in examples], "answer": [e.answers[0] for e in examples],
        "image": [{"bytes": e.images[0].read(), "path": None} for e in examples],
    }  # fmt: skip
    kinds = {name: datasets.Value("string") for name in ("question", "answer")}
    features = datasets.Features({**kinds, "image": datasets.Image()})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(top / "rows.parquet"))
    for name, (metrics, process) in TASKS.items():
        (top / name).mkdir()
        (top / name / "utils.py").write_text(UTILS)
        (top / name / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: parquet\ndataset_kwargs: {{data_files: {{test: {top}/rows.parquet}}}}\n"
            "test_split: test\noutput_type: generate_until\ndoc_to_visual: !function utils.visual\n"
            "doc_to_text: question\ndoc_to_target: answer\n"
            f"generation_kwargs: {{max_new_tokens: 48, do_sample: false}}\n{process}\nmetric_list:\n{metrics}\n"
        )
    weights = Path(data.__file__).parents[1] / "world" / "weights"
    model = f"pretrained={weights},device=cpu,device_map=cpu,dtype=float32"
    subprocess.run(
        [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--model_args", model, "--tasks", ",".join(TASKS),
         "--include_path", str(top), "--batch_size", "1", "--output_path", str(top / "out"), "--log_samples"],
        check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=280,
    )  # fmt: skip
    return top / "out"


def test_numbers_are_equal(results: Path, tmp_path: Path) -> None:
    [file] = results.rglob("*_results.json")
    theirs = json.loads(file.read_text())["results"]
    tasks = {task.name: task for task in read(results, "world")}
    assert set(tasks) == set(TASKS)
    for name, task in tasks.items():
        found = write(task, tmp_path / name).metrics
        assert found
        for metric, number in found.items():
            assert number.value == pytest.approx(theirs[name][f"{metric},none"])
            assert number.n == 24
    words = write(tasks["world_words"], tmp_path / "world_words").metrics["exact_match"]
    assert isinstance(words, Rate)
    assert words.k > 18
    assert isinstance(write(tasks["world_there"], tmp_path / "world_there").metrics["f1"], Mean)


def test_it_is_started_and_read_by_one_command(results: Path, tmp_path: Path) -> None:
    """`vlmend utility run`, here on two questions of a task."""
    words = ["utility", "run", "world", "--tasks", "world_words", "--include", str(results.parent), "--device", "cpu"]
    assert main([*words, "--limit", "2", "--python", sys.executable, "--out", str(tmp_path)]) == 0
    found = Run.open(tmp_path / "world_words")
    assert found.metrics()["metrics"]["exact_match"]["n"] == len(found.records()) == 2
    assert found.manifest()["imported"]["tool"] == "lmms-eval"


def test_answers_are_the_models_own(results: Path, tmp_path: Path) -> None:
    """The embedded model answers our backend the same, question by question."""
    from vlmend.registry import backend_for
    from vlmend.types import Decoding

    [task] = [task for task in read(results, "world") if task.name == "world_words"]
    write(task, tmp_path / "run")
    examples = [e for e in data.load("world:utility#test?n=60").examples if len(e.images) == 1][:24]
    backend = backend_for("world", {"device": "cpu"})
    ours = {r.example_id: r.text for r in backend.generate(examples, Decoding(max_new_tokens=48))}
    assert [r.response.text for r in Run.open(tmp_path / "run").records()] == [ours[e.id] for e in examples]
