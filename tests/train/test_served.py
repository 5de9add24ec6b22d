"""Runs whose answers a server samples: the same updates, the adapter as it is at each step, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.servers.stub import Act, Stub, asked, chat, choice, refuse
from tests.train.conftest import MakeRecipe, log_of, tune
from tests.train.rolling import learner
from vlmend.config import Recipe
from vlmend.errors import ConfigError, ModelError
from vlmend.train.rollouts import Sample, Sampler, heard
from vlmend.types import Example

Make = MakeRecipe
Lie = Callable[[dict[str, Any]], None]


def answer_ids(text: str, number: int) -> list[int]:
    """What is said, whoever samples: the same for the same prompt and number."""
    return [5 + (len(text) * 7 + number * 3 + i * (number + 1)) % 40 for i in range(2 + (len(text) + number) % 4)]


class Served:
    """A stub that takes adapters and answers as vLLM does, token ids included; `lie` spoils a choice or the reply."""

    def __init__(self, make: Make, lie: Lie = lambda _: None) -> None:
        self.made = learner(make("grpo", out="reads"))
        self.lie = lie
        self.handed: list[dict[str, torch.Tensor]] = []
        self.pages: list[tuple[str, str]] = []
        self.stub = Stub(self.behave, {"tiny": "vllm"})
        self.stub.adapters = self.take

    def take(self, page: str, body: dict[str, Any]) -> Act:
        self.pages.append((page, body["lora_name"]))
        if page.startswith("load"):
            self.handed.append(load_file(Path(body["lora_path"]) / "adapter_model.safetensors"))
        return Act(body=b"Success")

    def behave(self, number: int, body: dict[str, Any]) -> Act:
        del number
        text = asked(body)
        example = next(e for e in self.made.run.examples if e.prompt[-1].text == text)
        prompt = self.made.run.codec.encode_prompts([example]).inputs["input_ids"][0].tolist()
        choices = [
            {**choice("as text", index=n), "token_ids": answer_ids(text, n), "logprobs": {"content": []}}
            for n in range(body["n"])
        ]
        reply = {**json.loads(chat(*choices).body), "prompt_token_ids": prompt}
        self.lie(reply)
        return Act(body=json.dumps(reply).encode())

    def spec(self, **options: object) -> str:
        return f"openai:tiny@{self.stub.url}?" + "&".join(f"{k}={v}" for k, v in {"retries": 0, **options}.items())


@pytest.fixture
def served(make: Make) -> Iterator[Served]:
    made = Served(make)
    with made.stub:
        yield made


def weights(recipe: Recipe) -> bytes:
    return (recipe.output.dir / "adapter_model.safetensors").read_bytes()


def test_the_same_answers_make_the_same_weights_whoever_samples_them(
    make: Make, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each step's answers are asked of the adapter as it was then, by a name of the run's own."""
    there = make("grpo", out="there", server=served.spec())
    tune(there)
    assert [page for page, _ in served.pages] == ["unload_lora_adapter", "load_lora_adapter"] * 3 + [
        "unload_lora_adapter"
    ]
    assert {name for _, name in served.pages} == {body["model"] for body in served.stub.bodies} != {"tiny"}
    name = next(key for key in served.handed[0] if "lora_B" in key)
    first, second, third = (one[name] for one in served.handed)
    assert not first.any()
    assert second.any()
    assert not torch.equal(second, third)
    assert not (there.output.dir / ".served").exists()
    assert {body["n"] for body in served.stub.bodies} == {4}
    assert len({body["seed"] for body in served.stub.bodies}) == len(served.stub.bodies)

    def scripted(
        self: Sampler, examples: Sequence[Example], weights: Sequence[float], step: int, groups: Sequence[int]
    ) -> list[Sample]:
        del step
        found: list[Sample] = []
        for example, weight, group in zip(examples, weights, groups, strict=True):
            for n in range(4):
                ids = tuple(answer_ids(example.prompt[-1].text, n))
                found.append(Sample(group * 4 + n, group, weight, ids, heard(self.loaded.codec, example, ids)))
        return sorted(found, key=lambda one: one.number)

    monkeypatch.setattr(Sampler, "__call__", scripted)
    here = make("grpo", out="here")
    tune(here)
    assert weights(here) == weights(there)


def test_no_token_that_no_answer_is_made_of_is_asked_for(make: Make, served: Served) -> None:
    tune(make("grpo", server=served.spec(), train={"max_steps": 1}))
    banned = served.made.run.codec.unspeakable
    assert served.stub.bodies[0]["logit_bias"] == {str(token): -100 for token in banned}
    assert banned


def test_how_far_the_server_is_from_the_model_here_is_logged(make: Make) -> None:
    """Nats per token; at another temperature the server's log-probabilities are of another policy, and are not."""

    def tell(reply: dict[str, Any]) -> None:
        for one in reply["choices"]:
            one["logprobs"] = {"content": [{"logprob": -1.5} for _ in one["token_ids"]]}

    made = Served(make, tell)
    with made.stub:
        recipe = make("grpo", server=made.spec(), epochs=2, train={"max_steps": 1})
        tune(recipe)
        warm = make("grpo", out="warm", server=made.spec(), temperature=0.7, train={"max_steps": 1})
        tune(warm)
    [row] = log_of(recipe.output.dir)
    assert row["rollouts"]["server_gap"] == pytest.approx(abs(row["rollouts"]["entropy"] - 1.5), rel=0.5)
    assert row["rollouts"]["server_gap"] > 0
    assert "server_gap" not in log_of(warm.output.dir)[0]["rollouts"]


def no_ids(reply: dict[str, Any]) -> None:
    del reply["choices"][0]["token_ids"]


def other_prompt(reply: dict[str, Any]) -> None:
    reply["prompt_token_ids"][3] += 1


def longer_prompt(reply: dict[str, Any]) -> None:
    reply["prompt_token_ids"].append(7)


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (no_ids, "without token ids"),
        (other_prompt, r"reads the prompt of example 'row\d+' as \d+ tokens.*differ from token 3 on"),
        (longer_prompt, "one is the beginning of the other"),
    ],
)
def test_what_nothing_can_be_learned_from_ends_the_run(make: Make, lie: Lie, says: str) -> None:
    made = Served(make, lie)
    with made.stub, pytest.raises(ModelError, match=says):
        tune(make("grpo", server=made.spec()))


def test_what_cannot_be_sampled_with_is_refused_before_anything_is_tuned(make: Make, served: Served) -> None:
    with pytest.raises(ConfigError, match="has none to hand over"):
        tune(make("grpo", server=served.spec(), model={"tune": "full"}))
    with pytest.raises(ConfigError, match="of the kind plain"):
        tune(make("grpo", server=served.spec(server="plain")))
    with pytest.raises(ConfigError, match="names no server"):
        tune(make("grpo", server="world"))
    assert not served.pages


def test_a_server_that_takes_no_adapters_is_told_how_to(make: Make, served: Served) -> None:
    served.stub.adapters = None
    with pytest.raises(ModelError, match=r"vlmend serve MODEL --lora-rank"):
        tune(make("grpo", server=served.spec()))
    served.stub.adapters = lambda page, _: refuse(400, "rank too high") if page.startswith("load") else Act()
    with pytest.raises(ModelError, match=r"does not take the adapter in .*: rank too high"):
        tune(make("grpo", server=served.spec()))


def test_another_address_goes_on_with_the_same_run(make: Make, served: Served) -> None:
    """Killed after a step, and the server is elsewhere when it is started again."""
    whole = make("grpo", out="whole", server=served.spec())
    tune(whole)
    part = make("grpo", out="part", server=served.spec(), train={"save_steps": 1})
    bodies = len(served.stub.bodies)

    def dies(reply: dict[str, Any]) -> None:
        if len(served.stub.bodies) > bodies + 2:
            del reply["choices"]

    served.lie = dies
    with pytest.raises(ModelError):
        tune(part)
    served.lie = lambda _: None
    again = make("grpo", out="part", server=served.spec(window=2), train={"save_steps": 1})
    outcome, _ = tune(again)
    assert outcome.resumed_from >= 1
    assert weights(again) == weights(whole)
