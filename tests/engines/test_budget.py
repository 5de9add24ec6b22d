"""Budgets for thinking, with a real vLLM: in process the local backend's tokens; on its server by a second request.

The model is of random weights, and its chat template opens reasoning, so that it never ends it itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engines.model import save
from tests.engines.serving import MEMORY, serving
from vlmend import data
from vlmend.models.engines import engine
from vlmend.registry import backend_for
from vlmend.types import Decoding, Example, Response

pytestmark = pytest.mark.skipif(not engine()[0], reason="vLLM is not installed: make test-engines")

HOW = Decoding(max_new_tokens=40, thinking_budget=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(tmp_path_factory.mktemp("thinker"))
    template = folder / "chat_template.jinja"
    text = template.read_text()
    opened = text.replace(r"'<|im_start|>assistant\n'", r"'<|im_start|>assistant\n<think>\n'")
    template.write_text(opened)
    assert opened != text, text
    return folder


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    return [e for e in data.load("world#test").examples if len(e.images) == 1][:12]


def local(model: Path, rows: list[Example]) -> dict[str, Response]:
    found = backend_for(str(model), {"dtype": "float32", "device": "cpu"}).generate(rows, HOW)
    return {response.example_id: response for response in found}


def told(response: Response) -> tuple[Any, ...]:
    return response.text, response.reasoning, response.tokens, response.prompt_tokens, response.hurried


def test_in_process_the_tokens_are_the_local_backends(model: Path, rows: list[Example]) -> None:
    backend = backend_for(f"vllm:{model}?dtype=float32&gpu_memory_utilization={MEMORY}")
    found = {response.example_id: told(response) for response in backend.generate(rows, HOW)}
    expected = {name: told(response) for name, response in local(model, rows).items()}
    assert all(response[-1] for response in expected.values()), "all are ended from outside"
    same = sum(found[name] == expected[name] for name in expected)
    assert same >= len(rows) - 1, (found, expected)  # ties of random weights


def test_on_its_server_reasoning_is_ended_and_tokens_are_counted_once(model: Path, rows: list[Example]) -> None:
    expected = local(model, rows)
    with serving(str(model), 8766) as url:
        spec = f"openai:{'/'.join(model.parts[-2:])}@{url}?server=vllm"
        found = {response.example_id: response for response in backend_for(spec).generate(rows, HOW)}
    assert all(response.hurried and response.reasoning for response in found.values())
    assert all(found[name].prompt_tokens == expected[name].prompt_tokens for name in expected)
    assert all(response.tokens <= HOW.max_new_tokens for response in found.values())
    assert any(found[name].reasoning == expected[name].reasoning for name in expected), "the same thoughts first"
