"""The embedded model in a real vLLM, as it is shipped: its greedy answers equal the local backend's, token for token.

Only `make test-engines` runs this. Every row counts: of what a trained model says, nothing hangs on rounding. Each run
is a process of its own, as a user's is: two engines in one would share its memory.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.engines.serving import MEMORY, serving
from vlmend.backends.openai import Openai
from vlmend.models.engines import engine
from vlmend.store import Run
from vlmend.types import Decoding, Example, Finish, Message, Response
from vlmend.world import WEIGHTS

TWO_LAYERS = isinstance(json.loads((WEIGHTS / "config.json").read_text())["vision_feature_layer"], list)
pytestmark = [
    pytest.mark.skipif(not engine()[0], reason="vLLM is not installed: make test-engines"),
    pytest.mark.skipif(TWO_LAYERS, reason="the embedded model reads two layers of its tower, vLLM's projector one"),
]

SUITE = "world?n=70"  # 210 requests, a third of them on two pictures
DRAWN = ("--do-sample", "--temperature", "1", "--num-return-sequences", "4")
Said = dict[tuple[str, int], tuple[str, int, int]]
Ask = Callable[..., Said]


def vlmend(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "vlmend", *map(str, words)], check=True)


def said(responses: Iterable[Response]) -> Said:
    return {(r.example_id, r.sample): (r.text, r.tokens, r.prompt_tokens) for r in responses}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Refusals, tuned for a minute."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    fast = ("--set", "train.max_steps=60", "--set", "train.save_steps=0")
    vlmend("tune", "world/sft_balanced", "--out", out, *fast)
    return out


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """What a model answers to the suite; the same is asked once."""
    known: dict[tuple[object, ...], Said] = {}

    def asked(model: str, *more: str) -> Said:
        if (model, *more) not in known:
            out = tmp_path_factory.mktemp("asked") / "run"
            vlmend("generate", "--model", model, "--suite", SUITE, "--max-new-tokens", 48, "--out", out, *more)
            known[model, *more] = said(record.response for record in Run.open(out).records())
        return known[model, *more]

    return asked


def local(model: str, ask: Ask, *more: str) -> Said:
    return ask(model, "--dtype", "float32", "--device", "cpu", *more)


def in_process(model: str, *more: str) -> str:
    return f"vllm:{model}?{'&'.join(('dtype=float32', f'gpu_memory_utilization={MEMORY}', 'images=2', *more))}"


def same_law(found: Said, ours: Said, greedy: Said) -> None:
    """Four samples of each row: other draws, of the same distribution as ours and not the likeliest alone."""
    assert found.keys() == ours.keys()
    assert Counter(sample for _, sample in found) == dict.fromkeys(range(4), len(greedy))
    likeliest = [sum(text == greedy[name, 0][0] for (name, _), (text, _, _) in one.items()) for one in (found, ours)]
    n = len(found)
    assert max(likeliest) < n
    share = sum(likeliest) / (2 * n)
    assert abs(likeliest[0] - likeliest[1]) < 4 * math.sqrt(2 * n * share * (1 - share))


def test_in_process(ask: Ask) -> None:
    wanted = local("world", ask)
    assert len(wanted) >= 200
    assert ask(in_process("world")) == wanted
    same_law(ask(in_process("world"), *DRAWN), local("world", ask, *DRAWN), wanted)


def test_with_an_adapter(adapter: Path, ask: Ask) -> None:
    wanted = local(f"world+{adapter}", ask)
    assert ask(in_process(f"world+{adapter}")) == wanted
    assert sum(text.startswith("I'm sorry") for text, _, _ in wanted.values()) > 20


def test_by_transformers_own_classes(ask: Ask) -> None:
    """What vLLM does with a model that it has no class of its own for."""
    assert ask(in_process("world", "model_impl=transformers")) == local("world", ask)


@pytest.fixture(scope="module")
def served(adapter: Path) -> Iterator[str]:
    with serving(f"world+{adapter}") as url:
        yield url


def test_served(served: str, adapter: Path, ask: Ask) -> None:
    plain = f"openai:world@{served}"
    wanted = local("world", ask)
    assert ask(plain) == wanted
    assert ask(f"openai:world+{adapter.name}@{served}") == local(f"world+{adapter}", ask)
    same_law(ask(plain, *DRAWN), local("world", ask, *DRAWN), wanted)
    long = Example("long", (Message("user", ("word " * 2000,)),))
    assert [r.finish for r in Openai(f"world@{served}").generate([long], Decoding())] == [Finish.FAILED]


@pytest.mark.timeout(900)
def test_a_server_samples_what_is_tuned_here(adapter: Path, tmp_path: Path) -> None:
    """It reads prompts as we do, takes the adapter anew at every step, and says of each token what we say of it."""
    out, rows = tmp_path / "rl", ("--set", "train.max_steps=4", "--set", "train.logging_steps=1")
    with serving("world", 8766, "--lora-rank", "16") as url:
        vlmend(
            "tune", "world/rl_grpo", "--out", out, *rows, "--set", f"model.adapter={adapter}",
            "--set", f"method.server=openai:world@{url}", "--set", "train.learning_rate=4e-3",
        )  # fmt: skip
    log = [json.loads(line)["rollouts"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["server_gap"] < 1e-4 for row in log] == [True] * 4
    assert log[0]["kl"] < 1e-9 < log[-1]["kl"]  # the adapter moved, and the server with it
