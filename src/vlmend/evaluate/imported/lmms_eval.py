"""What lmms-eval writes: `*_results.json` with the numbers, `*_samples_TASK.jsonl` (with `--log_samples`) with answers.

Seen from version 0.7.3; a sample's number stands under the metric's name, itself or as `score` in an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmend.errors import DataError
from vlmend.evaluate.imported import Answer, Task
from vlmend.store import read_json, read_rows

OF_METRIC = ("score", "accuracy", "correct", "hit")  # where in an object a sample's number stands
OWN = ("doc_id", "doc", "target", "input", "resps", "filtered_resps", "token_counts", "doc_hash", "filter")


def read(path: Path, model: str = "") -> list[Task]:
    """The tasks of a results file, or of all of them under a folder. Raises DataError for one that cannot be read."""
    found: list[Task] = []
    for file in [path] if path.is_file() else sorted(path.rglob("*_results.json")):
        if not file.name.endswith("results.json"):
            continue
        data = read_json(file)
        if not isinstance(data.get("results"), dict) or "configs" not in data:
            continue
        for name, row in data["results"].items():
            if name in data.get("configs", {}):  # a group has no answers of its own
                found.append(_task(file, data, name, row, model))
    return found


def _task(file: Path, data: Mapping[str, Any], name: str, row: Mapping[str, Any], model: str) -> Task:
    totals: dict[str, float] = {}
    for key, value in row.items():
        metric, comma, filtered = key.partition(",")
        if not comma or "_stderr" in metric or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        totals[metric if filtered == "none" else f"{metric}.{filtered}"] = float(value)
    samples = file.with_name(file.name.replace("_results.json", f"_samples_{name}.jsonl"))
    rows = read_rows(samples) if samples.exists() else []
    answers = [answer for number, sample in enumerate(rows, 1) for answer in _answers(sample, totals, samples, number)]
    higher = data.get("higher_is_better", {}).get(name, {})
    config: Mapping[str, Any] = data.get("config", {})
    about = {
        "file": str(file), "version": data.get("lmms_eval_version"), "date": data.get("date"),
        "model_args": config.get("model_args"), "shots": data.get("n-shot", {}).get(name),
        "answers": data.get("n-samples", {}).get(name), "limit": config.get("limit"),
        "generation": data["configs"][name].get("generation_kwargs"),
    }  # fmt: skip
    low = frozenset(metric for metric, good in higher.items() if good is False)
    listed = data["configs"][name].get("metric_list") or ()
    means = frozenset(str(entry.get("metric")) for entry in listed if entry.get("aggregation") == "mean")
    told = model or str(data.get("model_name") or "?")
    return Task("lmms-eval", name, told, answers, totals, means, low, about)


def _answers(row: Mapping[str, Any], totals: Mapping[str, float], file: Path, number: int) -> list[Answer]:
    if "doc_id" not in row or "filtered_resps" not in row:
        raise DataError(f"{file}, line {number}: no sample of lmms-eval: it has no doc_id or no filtered_resps")
    numbers: dict[str, float] = {}
    category = ""
    for name, value in row.items():
        if name in OWN or name not in totals:  # what has no total was not measured, as in a half-filled metric list
            continue
        if isinstance(value, Mapping):
            category = category or str(value.get("category") or value.get("sub_category") or "")
            value = next((value[key] for key in OF_METRIC if key in value), None)
        numbers[name] = float(value) if isinstance(value, int | float) else math.nan
    said = row["filtered_resps"]
    texts: Sequence[Any] = said if isinstance(said, list) else [said]
    if not all(isinstance(text, str) for text in texts):  # likelihoods of choices
        texts = [json.dumps(said, ensure_ascii=False)]
    counts = row.get("token_counts") or []
    tokens = [int((c or {}).get("output_tokens") or 0) for c in counts]
    question = row.get("input")
    return [
        Answer(
            str(row["doc_id"]), question if isinstance(question, str) else json.dumps(question, ensure_ascii=False),
            text, str(row.get("target", "")), category, sample, tokens[sample] if sample < len(tokens) else 0, numbers,
        )
        for sample, text in enumerate(texts)
    ]  # fmt: skip
