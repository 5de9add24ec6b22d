"""A real vLLM on a tiny model: in process and served, with an adapter, with two pictures, killed and resumed.

Only `make test-engines` runs this. Answers are compared with the local backend's, token counts included; a character
that is cut in half at the end is left out, since vLLM holds it back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.engines.model import save
from tests.engines.serving import MEMORY, serving
from vlmend import data
from vlmend.cli import main
from vlmend.models.engines import engine
from vlmend.store import Run
from vlmend.types import Backend, Decoding, Example, Finish, Image, Message, Response

pytestmark = pytest.mark.skipif(not engine()[0], reason="vLLM is not installed: make test-engines")

HOW = Decoding(max_new_tokens=16)
SCHEMA = json.dumps({
    "type": "object", "properties": {"label": {"enum": ["safe", "unsafe"]}}, "required": ["label"],
    "additionalProperties": False,
})  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    scenes = [e for e in data.load("world#test").examples if len(e.images) == 1][:41]
    two = [
        Example(f"two{i}", (Message("user", (*one.images, *other.images, "Compare.")),))
        for i, (one, other) in enumerate(islice(pairwise(scenes), 10))
    ]
    return [*scenes, *two]


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlavaForConditionalGeneration

    torch.manual_seed(0)
    base = LlavaForConditionalGeneration.from_pretrained(model)
    made: Any = get_peft_model(base, LoraConfig(r=8, target_modules=r".*language_model.*(q|v)_proj"))
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("adapter")
    made.save_pretrained(folder)
    return folder


def said(responses: Iterable[Response]) -> dict[str, tuple[str, int, int]]:
    return {r.example_id: (r.text.rstrip("\ufffd"), r.tokens, r.prompt_tokens) for r in responses}


def local(model: str, rows: Sequence[Example]) -> dict[str, tuple[str, int, int]]:
    from vlmend.backends.hf import Hf

    return said(Hf(model, dtype="float32", device="cpu").generate(rows, HOW))


def in_process(model: str) -> Backend:
    from vlmend.backends.vllm import Vllm

    return Vllm(model, dtype="float32", gpu_memory_utilization=float(MEMORY), images=2)


def equal(found: dict[str, Any], wanted: dict[str, Any], name: str) -> None:
    same = sum(found[key] == value for key, value in wanted.items())
    sys.stdout.write(f"\n{name}: {same} of {len(wanted)} equal\n")
    assert found.keys() == wanted.keys()
    assert same >= 0.95 * len(wanted)  # random weights: ties within rounding


def test_in_process(model: Path, rows: list[Example]) -> None:
    backend = in_process(str(model))
    equal(said(backend.generate(rows, HOW)), local(str(model), rows), "in process")
    long = Example("long", (Message("user", ("word " * 2000,)),))
    broken = Example("broken", (Message("user", (Image(make=lambda: b"no picture"), "What?")),))
    found = {r.example_id: r for r in backend.generate([long, rows[0], broken], HOW)}
    assert [found[key].finish is Finish.FAILED for key in ("long", "broken", rows[0].id)] == [True, True, False]
    bad = list(backend.generate(rows[:2], Decoding(schema='{"type": "nonsense"}')))
    assert {r.finish for r in bad} == {Finish.FAILED}
    kept = list(backend.generate(rows[:4], Decoding(schema=SCHEMA, max_new_tokens=40)))
    assert all(json.loads(r.text)["label"] in ("safe", "unsafe") for r in kept)
    many = [e for e in islice(data.load("world:safe#test?n=400").examples, 400) if len(e.images) == 1][:240]
    drawn = Decoding(do_sample=True, num_return_sequences=4, max_new_tokens=4)
    four = list(backend.generate(many, drawn))  # more tokens than go through at once
    assert len({(r.example_id, r.sample) for r in four}) == 4 * len(many) == 960
    assert all(r.finish is not Finish.FAILED for r in four)


@pytest.fixture(scope="module")
def served(model: Path, adapter: Path) -> Iterator[str]:
    with serving(f"{model}+{adapter}") as url:
        yield f"{'/'.join(model.parts[-2:])}@{url}"


def test_served(served: str, model: Path, adapter: Path, rows: list[Example]) -> None:
    from vlmend.backends.openai import Openai

    backend = Openai(served)
    equal(said(backend.generate(rows, HOW)), local(str(model), rows), "served")
    assert "stay control tokens" in backend.notes[0]
    name, url = served.split("@")
    tuned = Openai(f"{name}+{adapter.name}@{url}")
    equal(said(tuned.generate(rows, HOW)), local(f"{model}+{adapter}", rows), "served, with an adapter")
    assert local(f"{model}+{adapter}", rows) != local(str(model), rows)
    kept = list(backend.generate(rows[:4], Decoding(schema=SCHEMA, max_new_tokens=40)))
    assert all(json.loads(r.text)["label"] in ("safe", "unsafe") for r in kept)
    long = Example("long", (Message("user", ("word " * 2000,)),))
    assert [r.finish for r in backend.generate([long], HOW)] == [Finish.FAILED]


def test_a_judge_with_a_schema_is_read_and_fails_its_controls(served: str, tmp_path: Path) -> None:
    """Random weights fill in any form; that they know nothing is what the known controls are for."""
    run = tmp_path / "run"
    suite = ["--suite", "world", "--limit", "24", "--out", str(run)]
    assert main(["eval", "--model", "scripted:comply", *suite]) == 0
    words = ["judge", str(run), "--judge", "rubric:tone", "--judge-model", f"openai:{served}"]
    assert main(words) == 2
    assert "rubric:tone" not in (run / "verdicts.jsonl").read_text()
    assert main([*words, "--judge-controls", "mark"]) == 0
    given = [verdict for record in Run.open(run).records() if (verdict := record.verdict("rubric:tone"))]
    assert len(given) > 8
    assert all(verdict.refused is not None for verdict in given)
    assert main(["score", str(run)]) == 0
    assert "controls" in Run.open(run).metrics()["metrics"]["asr.rubric:tone"]["marked"]


@pytest.mark.parametrize("tuned", [False, True], ids=["plain", "adapter"])
@pytest.mark.parametrize("impl", ["auto", "transformers"])
def test_in_a_process_of_its_own(model: Path, adapter: Path, impl: str, tuned: bool, tmp_path: Path) -> None:
    """By vLLM's classes, and by transformers' as for a model that vLLM has none for; as a user asks."""
    spec = f"{model}+{adapter}" if tuned else str(model)
    asked = ["--suite", "world", "--limit", "48", "--max-new-tokens", "16"]
    engines = f"vllm:{spec}?gpu_memory_utilization={MEMORY}&dtype=float32&images=2&model_impl={impl}"
    found: list[dict[str, tuple[str, int, int]]] = []
    for name, words in (("engine", [engines]), ("local", [spec, "--dtype", "float32", "--device", "cpu"])):
        command = ["generate", "--model", *words, *asked, "--out", str(tmp_path / name)]
        subprocess.run([sys.executable, "-m", "vlmend", *command], check=True)
        found.append(said(record.response for record in Run.open(tmp_path / name).records()))
    equal(*found, f"{impl}, {'with an adapter' if tuned else 'plain'}")


def test_killed_and_resumed(model: Path, tmp_path: Path) -> None:
    spec = f"vllm:{model}?gpu_memory_utilization={MEMORY}&dtype=float32&images=2&window=4"
    words = ["generate", "--model", spec, "--suite", "world", "--limit", "24", "--out", str(tmp_path / "run")]
    words += ["--max-new-tokens", "8"]
    first = subprocess.Popen([sys.executable, "-m", "vlmend", *words], start_new_session=True)
    stored = tmp_path / "run" / "responses.jsonl"
    for _ in range(600):
        if stored.exists() and stored.read_bytes().count(b"\n") >= 4:
            break
        assert first.poll() is None
        time.sleep(0.5)
    first.kill()
    first.wait(30)
    left = subprocess.run(["pgrep", "-g", str(first.pid)], capture_output=True, text=True, check=False).stdout.split()
    assert left == []  # no engine without its run
    assert subprocess.run([sys.executable, "-m", "vlmend", *words], check=False).returncode == 0
    answered = [json.loads(line)["example_id"] for line in stored.read_text().splitlines()]
    assert len(answered) == len(set(answered)) == 24
