"""The embedded model in a real vLLM, as it is shipped: its greedy answers equal the local backend's, token for token.

Only `make test-engines` runs this. Every row counts: of what a trained model says, nothing hangs on rounding.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.engines.serving import MEMORY, serving
from vlmend import data
from vlmend.backends.hf import Hf
from vlmend.backends.openai import Openai
from vlmend.backends.vllm import Vllm
from vlmend.cli import main
from vlmend.models.engines import engine
from vlmend.types import Decoding, Example, Finish, Message, Response
from vlmend.world import WEIGHTS

TWO_LAYERS = isinstance(json.loads((WEIGHTS / "config.json").read_text())["vision_feature_layer"], list)
pytestmark = [
    pytest.mark.skipif(not engine()[0], reason="vLLM is not installed: make test-engines"),
    pytest.mark.skipif(TWO_LAYERS, reason="the embedded model reads two layers of its tower, vLLM's projector one"),
]

HOW = Decoding(max_new_tokens=48)
DRAWN = Decoding(do_sample=True, temperature=1.0, num_return_sequences=4, max_new_tokens=48, seed=1)
TOO_LONG = Example("long", (Message("user", ("word " * 2000,)),))


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """202 requests of every kind, a third of them on two pictures."""
    found = [*data.load("world:suite#test?n=100").examples]
    two = [e for e in found if len(e.images) == 2]
    assert len(two) >= 40
    return found


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Refusals, tuned for a minute."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    words = ["tune", "recipes/world/sft_balanced.yaml", "--out", str(out), "--set", "train.max_steps=60"]
    assert main([*words, "--set", "train.save_steps=0"]) == 0
    return out


def said(responses: Iterable[Response]) -> dict[tuple[str, int], tuple[str, int, int]]:
    return {(r.example_id, r.sample): (r.text, r.tokens, r.prompt_tokens) for r in responses}


def local(model: str, rows: Sequence[Example], how: Decoding = HOW) -> dict[tuple[str, int], tuple[str, int, int]]:
    return said(Hf(model, dtype="float32", device="cpu").generate(rows, how))


def in_process(model: str, impl: str = "auto") -> Vllm:
    return Vllm(model, dtype="float32", gpu_memory_utilization=float(MEMORY), images=2, model_impl=impl)  # pyright: ignore


@pytest.mark.parametrize("tuned", [False, True], ids=["plain", "adapter"])
def test_in_process(tuned: bool, adapter: Path, rows: list[Example]) -> None:
    spec = f"world+{adapter}" if tuned else "world"
    wanted = local(spec, rows)
    backend = in_process(spec)
    assert said(backend.generate(rows, HOW)) == wanted
    refusals = sum(text.startswith("I'm sorry") for text, _, _ in wanted.values())
    assert (refusals > 20) is tuned
    given = {r.example_id: r for r in backend.generate([rows[0], TOO_LONG, rows[1]], HOW)}
    assert given["long"].finish is Finish.FAILED
    assert {r.example_id: r.text for r in given.values() if r.example_id != "long"} == {
        e.id: wanted[e.id, 0][0] for e in rows[:2]
    }
    if not tuned:
        same_law(said(backend.generate(rows, DRAWN)), local(spec, rows, DRAWN), wanted)


def same_law(
    found: dict[tuple[str, int], tuple[str, int, int]],
    ours: dict[tuple[str, int], tuple[str, int, int]],
    greedy: dict[tuple[str, int], tuple[str, int, int]],
) -> None:
    """Four samples of each row: other draws, of the same distribution as ours and not the likeliest alone."""
    assert found.keys() == ours.keys()
    assert Counter(sample for _, sample in found) == dict.fromkeys(range(4), len(greedy))
    likeliest = [sum(text == greedy[name, 0][0] for (name, _), (text, _, _) in one.items()) for one in (found, ours)]
    n = len(found)
    assert max(likeliest) < n
    share = sum(likeliest) / (2 * n)
    assert abs(likeliest[0] - likeliest[1]) < 4 * math.sqrt(2 * n * share * (1 - share))


def test_by_transformers_own_classes(rows: list[Example]) -> None:
    """What vLLM does with a model that it has no class of its own for."""
    assert said(in_process("world", "transformers").generate(rows[:60], HOW)) == local("world", rows[:60])


@pytest.fixture(scope="module")
def served(adapter: Path) -> Iterator[str]:
    with serving(f"world+{adapter}") as url:
        yield url


def test_served(served: str, adapter: Path, rows: list[Example]) -> None:
    plain = Openai(f"world@{served}")
    wanted = local("world", rows)
    assert said(plain.generate(rows, HOW)) == wanted
    assert said(Openai(f"world+{adapter.name}@{served}").generate(rows, HOW)) == local(f"world+{adapter}", rows)
    assert [r.finish for r in plain.generate([TOO_LONG], HOW)] == [Finish.FAILED]
    same_law(said(plain.generate(rows, DRAWN)), local("world", rows, DRAWN), wanted)
