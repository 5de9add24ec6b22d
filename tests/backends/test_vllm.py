"""vLLM cannot run here: a stand-in takes only names that both vLLM 0.20.0 and 0.33.0 know, and records the calls."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from vlmend import data
from vlmend.backends import response_id
from vlmend.backends.vllm import Vllm
from vlmend.errors import ConfigError, ModelError, UsageError
from vlmend.models import engines
from vlmend.registry import backend_for
from vlmend.types import Decoding, Example, Finish, Image, Message

NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("vllm_contract.json").read_text())["names"]


def checked(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    unknown = set(given) - set(NAMES[kind])
    assert not unknown, f"{kind} has no {unknown}"
    return given


class Engine:
    made: ClassVar[list[dict[str, Any]]] = []
    chats: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, model: str, **settings: Any) -> None:
        Engine.made.append(checked("LLM", {"model": model, **settings}))

    def chat(self, messages: list[Any], sampling_params: list[Any], **rest: Any) -> list[Any]:
        checked("LLM.chat", {"messages": messages, "sampling_params": sampling_params, **rest})
        Engine.chats.append({"messages": messages, "sampling": sampling_params, **rest})
        if any("too long" in json.dumps(m) for m in messages):
            raise ValueError("the prompt is too long")
        return [
            SimpleNamespace(prompt_token_ids=[1, 2, 3], outputs=[
                SimpleNamespace(index=i, text=f"<think>hm</think>answer {i}", token_ids=[5, 6], finish_reason="stop")
                for i in range(how.n)
            ])
            for how in sampling_params
        ]  # fmt: skip

    def get_tokenizer(self) -> Any:
        return Letters()


class Letters:
    """A token is a letter."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, ids))

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, lora, request, params = (ModuleType(n) for n in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.params"))
    fake.LLM = Engine  # type: ignore[attr-defined]
    fake.RequestOutput = SimpleNamespace  # type: ignore[attr-defined]
    fake.SamplingParams = lambda **given: SimpleNamespace(**checked("SamplingParams", given))  # type: ignore[attr-defined]
    request.LoRARequest = lambda *given: SimpleNamespace(**dict(zip(  # type: ignore[attr-defined]
        ("lora_name", "lora_int_id", "lora_path"), given, strict=True)))  # fmt: skip
    params.StructuredOutputsParams = lambda **given: SimpleNamespace(  # type: ignore[attr-defined]
        **checked("StructuredOutputsParams", given)
    )
    for name, module in (
        ("vllm", fake), ("vllm.lora", lora), ("vllm.lora.request", request), ("vllm.sampling_params", params),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    Engine.made.clear()
    Engine.chats.clear()


def scenes(n: int) -> list[Example]:
    return list(data.load("world#test").examples)[:n]


def test_every_example_and_sample_is_answered_once() -> None:
    backend: Any = backend_for("vllm:world?window=2")
    decoding = Decoding(do_sample=True, num_return_sequences=3, first_sample=2, seed=1)
    found = list(backend.generate(scenes(5), decoding))
    assert {(r.example_id, r.sample) for r in found} == {(e.id, s) for e in scenes(5) for s in (2, 3, 4)}
    assert len({r.id for r in found}) == 15
    assert {(r.text, r.reasoning, r.finish, r.tokens, r.prompt_tokens) for r in found if r.sample == 3} == {
        ("answer 1", "hm", Finish.STOP, 2, 3)
    }
    assert [len(c["messages"]) for c in Engine.chats] == [2, 2, 1]
    assert len({how.seed for c in Engine.chats for how in c["sampling"]}) == 5


def test_pictures_prefixes_and_no_defaults_of_the_model() -> None:
    list(Vllm("world").generate(scenes(1), Decoding(max_new_tokens=9)))
    made, how = Engine.made[0], Engine.chats[0]["sampling"][0]
    assert made["limit_mm_per_prompt"] == {"image": 1}
    assert made["enable_prefix_caching"] is True
    assert made["generation_config"] == "vllm"
    assert (how.temperature, how.max_tokens, how.repetition_penalty) == (0.0, 9, 1.0)
    kinds = [part["type"] for part in Engine.chats[0]["messages"][0][0]["content"]]
    assert kinds == ["image_url", "text"]


def test_more_pictures_than_laid_out_for_are_refused() -> None:
    backend = Vllm("world")
    one = scenes(1)[0]
    list(backend.generate([one], Decoding()))
    two = replace(one, prompt=(Message("user", (*one.images, *one.images, "Compare.")),))
    with pytest.raises(ModelError, match="images=2"):
        list(backend.generate([two], Decoding()))


def test_one_bad_prompt_does_not_spoil_the_others() -> None:
    examples = [Example(str(i), (Message("user", ("too long" if i == 1 else "fine",)),)) for i in range(3)]
    found = {r.example_id: r for r in Vllm("world").generate(examples, Decoding())}
    assert [found[n].finish for n in "012"] == [Finish.STOP, Finish.FAILED, Finish.STOP]
    assert "too long" in found["1"].why


def test_adapters(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 12}')
    backend = Vllm(f"world+{tmp_path}")
    list(backend.generate(scenes(1), Decoding()))
    assert Engine.made[0]["max_lora_rank"] == 16
    assert Engine.chats[0]["lora_request"].lora_path == str(tmp_path)
    assert backend.fingerprint != Vllm("world").fingerprint
    (tmp_path / "adapter_config.json").write_text('{"r": 12, "modules_to_save": ["projector"]}')
    with pytest.raises(ModelError, match="merge"):
        list(Vllm(f"world+{tmp_path}").generate(scenes(1), Decoding()))


def test_adapters_of_another_base_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {"r": 12, "base_model_name_or_path": "someone/other"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    backend = Vllm(f"world+{tmp_path}")
    list(backend.generate(scenes(2), Decoding()))
    assert [r.getMessage() for r in caplog.records] == list(backend.notes)[:1]
    assert "names someone/other as its base and is put on world" in caplog.text
    (tmp_path / "vlmend_base.json").write_text('{"base_weights": "of something else"}')
    with pytest.raises(ModelError, match="tuned on other weights"):
        list(Vllm(f"world+{tmp_path}").generate(scenes(1), Decoding()))


class Refusing(Exception):
    """Stands for vLLM's own errors, which have nothing in common with ours or with ValueError."""


class VLLMClientError(Refusing):
    pass


@pytest.mark.parametrize("error", [VLLMClientError, Refusing, ValueError, KeyError, OSError])
def test_what_the_engine_refuses_is_one_failed_response(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def chat(self: Any, messages: list[Any], sampling_params: list[Any], **rest: Any) -> list[Any]:
        asked.append(len(messages))
        if any("too long" in json.dumps(m) for m in messages):
            raise error("longer than\nthe maximum")
        return answered(self, messages, sampling_params, **rest)

    answered = Engine.chat
    monkeypatch.setattr(Engine, "chat", chat)
    examples = [Example(str(i), (Message("user", ("too long" if i == 37 else "fine",)),)) for i in range(64)]
    found = {r.example_id: r for r in Vllm("world").generate(examples, Decoding())}
    assert [i for i, r in found.items() if r.finish is Finish.FAILED] == ["37"]
    assert len(found) == 64
    assert found["37"].why.strip("'") in ("longer than the maximum", "longer than\\nthe maximum")
    assert len(asked) <= 2 * 6 + 3  # halves, not one by one


def test_a_broken_picture_never_reaches_the_engine(tmp_path: Path) -> None:
    bad = replace(scenes(1)[0], id="bad", prompt=(Message("user", (Image(path=tmp_path / "none.png"), "What?")),))
    found = {r.example_id: r for r in Vllm("world").generate([bad, *scenes(2)], Decoding())}
    assert found["bad"].finish is Finish.FAILED
    assert sum(r.finish is Finish.STOP for r in found.values()) == 2
    assert [len(c["messages"]) for c in Engine.chats] == [2]


def test_an_engine_that_is_dead_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def chat(*given: Any, **named: Any) -> list[Any]:
        raise Refusing("EngineCore encountered an issue")

    monkeypatch.setattr(Engine, "chat", chat)
    with pytest.raises(ModelError, match="EngineCore"):
        list(Vllm("world").generate(scenes(3), Decoding()))


def test_an_engine_that_fails_amid_computing_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was computing is still in it, and would be computed again with whatever is asked next."""
    asked: list[int] = []

    def chat(self: Any, messages: list[Any], *given: Any, **named: Any) -> list[Any]:
        asked.append(len(messages))
        raise RuntimeError("no offset")

    monkeypatch.setattr(Engine, "chat", chat)
    monkeypatch.setattr(Engine, "llm_engine", SimpleNamespace(has_unfinished_requests=lambda: True), raising=False)
    with pytest.raises(ModelError, match=r"amid computing.*no offset"):
        list(Vllm("world").generate(scenes(3), Decoding()))
    assert asked == [3]


def test_on_a_processor_prompts_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """In process and served alike; on a GPU vLLM decides."""
    for there in (True, False):
        monkeypatch.setattr(engines, "on_processor", lambda there=there: there)
        given = engines.EngineSettings().arguments(1)
        assert ("enable_chunked_prefill" in given) is there
        assert ("--no-enable-chunked-prefill" in engines.words(given)) is there


@pytest.mark.parametrize(("said", "setting"), [
    ("Available memory on node 0 is less than desired CPU memory utilization", "gpu_memory_utilization"),
    ("User-specified max_model_len (9) is greater than the derived", "max_model_len"),
    ("1 validation error for ModelConfig\n  Value error, Model architectures ['X'] are not supported\n  [type=x]",
     "model_impl"),
])  # fmt: skip
def test_an_engine_that_does_not_start_is_one_line(said: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*given: Any, **named: Any) -> None:
        raise Refusing(said)

    monkeypatch.setattr(Engine, "__init__", start)
    with pytest.raises(ModelError, match=setting) as told:
        list(Vllm("world").generate(scenes(1), Decoding()))
    assert "\n" not in str(told.value)


def test_memory_is_no_part_of_a_model_s_identity() -> None:
    one = Vllm("world")
    same = [Vllm("world", max_model_len=64), Vllm("world", gpu_memory_utilization=0.2), Vllm("world", images=3),
            Vllm("world", limit_mm_per_prompt='{"image": 4}')]  # fmt: skip
    assert {other.fingerprint for other in same} == {one.fingerprint}
    others = [Vllm("world", dtype="float32"), Vllm("world", hf_overrides='{"vision_feature_layer": -2}'),
              Vllm("world", model_impl="transformers"), Vllm("world", mm_processor_kwargs='{"size": 9}')]  # fmt: skip
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_settings_reach_the_engine_by_its_own_names() -> None:
    backend: Any = backend_for('vllm:world?hf_overrides={"a": 1}&limit_mm_per_prompt={"image": 5}&max_model_len=512')
    list(backend.generate(scenes(1), Decoding()))
    made = Engine.made[0]
    assert (made["hf_overrides"], made["limit_mm_per_prompt"], made["max_model_len"]) == ({"a": 1}, {"image": 5}, 512)
    for wrong in ("hf_overrides={", "hf_overrides=[1]", "max_model_len=0", "gpu_memory_utilization=1.5"):
        with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
            backend_for(f"vllm:world?{wrong}")


def test_schemas_go_along_and_beams_are_refused() -> None:
    list(Vllm("world").generate(scenes(1), Decoding(schema='{"type": "object"}')))
    assert Engine.chats[0]["sampling"][0].structured_outputs.json == {"type": "object"}
    with pytest.raises(ConfigError, match="num_beams"):
        list(Vllm("world").generate(scenes(1), Decoding(num_beams=2)))


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"vlmend\[vllm\]"):
        list(Vllm("world").generate(scenes(1), Decoding()))


STORY = "<think>A ring glows.</think>It is hot."


def output(prompt: str, text: str, room: int) -> SimpleNamespace:
    """What is said as far as there is room for it, and one token for its end."""
    ids = [*map(ord, text), 0][:room]
    answer = SimpleNamespace(index=0, text=text[:room], token_ids=ids, finish_reason="stop" if 0 in ids else "length")
    return SimpleNamespace(prompt_token_ids=[ord(letter) for letter in prompt], outputs=[answer])


class Storyteller(Engine):
    """Says `story` to everything, and `after` behind the first tokens of an answer."""

    story: ClassVar[str] = STORY
    prompt: ClassVar[str] = "Hot?"
    after: ClassVar[str] = "Yes."
    behind: ClassVar[list[tuple[str, int]]] = []

    def chat(self, messages: list[Any], sampling_params: list[Any], **rest: Any) -> list[Any]:
        Engine.chats.append({"messages": messages, "sampling": sampling_params, **rest})
        return [output(self.prompt, self.story, how.max_tokens) for how in sampling_params]

    def _preprocess_chat(self, chats: list[Any]) -> list[dict[str, Any]]:
        return [{"type": "token", "prompt": self.prompt, "prompt_token_ids": [*map(ord, self.prompt)]} for _ in chats]

    def _render_and_run_requests(self, *, prompts: Any, params: list[Any], **rest: Any) -> list[Any]:
        assert rest.keys() == {"output_type", "use_tqdm", "lora_requests"}
        found: list[Any] = []
        for prompt, how in zip(prompts, params, strict=True):
            self.behind.append(("".join(map(chr, prompt["prompt_token_ids"])), how.max_tokens))
            found.append(output(self.prompt, self.after, how.max_tokens))
        return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Storyteller]:
    monkeypatch.setattr(sys.modules["vllm"], "LLM", Storyteller)
    Storyteller.behind.clear()
    return Storyteller


def one(**how: Any) -> Any:
    [response] = backend_for("vllm:world").generate(scenes(1), Decoding(**how))
    return response


def test_reasoning_that_is_open_when_its_budget_is_spent_is_ended_and_answered(told: type[Storyteller]) -> None:
    response = one(max_new_tokens=60, thinking_budget=13)
    said = "<think>A ring\n</think>\n\n"
    assert told.behind == [(f"Hot?{said}", 60 - len(said))], "the mark counts as tokens of the response"
    assert (response.reasoning, response.text, response.hurried) == ("A ring", "Yes.\x00", True)
    assert response.tokens == len(said) + len("Yes.") + 1, "each token once"
    assert response.prompt_tokens == len("Hot?")
    assert response.id == response_id(
        backend_for("vllm:world").fingerprint, scenes(1)[0], Decoding(60, thinking_budget=13)
    )


@pytest.mark.parametrize("budget", [len(STORY.partition("It")[0]), 36, 59])
def test_what_is_not_inside_its_reasoning_then_is_as_without_a_budget(told: type[Storyteller], budget: int) -> None:
    free, held = one(max_new_tokens=60), one(max_new_tokens=60, thinking_budget=budget)
    assert replace(held, id="", seconds=0.0) == replace(free, id="", seconds=0.0)
    assert not told.behind


def test_reasoning_that_the_prompt_has_opened_is_ended_too(
    told: type[Storyteller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "prompt", "Hot? <think>\n")
    monkeypatch.setattr(told, "story", "A ring glows.</think>It is hot.")
    response = one(max_new_tokens=60, thinking_budget=6)
    assert told.behind[0][0] == "Hot? <think>\nA ring\n</think>\n\n"
    assert (response.reasoning, response.hurried) == ("A ring", True)


def test_an_answer_that_the_mark_leaves_no_room_for_is_cut(told: type[Storyteller]) -> None:
    response = one(max_new_tokens=20, thinking_budget=13)
    assert not told.behind
    assert (response.tokens, response.finish, response.hurried) == (20, Finish.LENGTH, True)
    assert not response.said


def test_a_budget_leaves_room_for_an_answer() -> None:
    with pytest.raises(ConfigError, match="leaves nothing for the answer"):
        one(max_new_tokens=12, thinking_budget=12)


def test_a_vllm_that_goes_on_behind_no_tokens_says_so() -> None:
    with pytest.raises(UsageError, match="has no way to go on behind given tokens"):
        one(max_new_tokens=12, thinking_budget=6)
