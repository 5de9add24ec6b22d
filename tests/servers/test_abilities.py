"""What a server does with control tokens and schemas is found out by what it counts and says, never assumed."""

import json
from typing import Any

import pytest

from tests.servers.stub import Act, Stub, chat, choice, refuse, say
from vlmend.backends.openai import Openai
from vlmend.servers.chat import sampling
from vlmend.types import Decoding, Example, Message

SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}}'


def counting(length: int) -> Any:
    """A server to which a control token in a text is `length` tokens, and any other letter one."""

    def behave(number: int, body: dict[str, Any]) -> Act:
        text = body["messages"][-1]["content"]
        tokens = 5 + length * text.count("<|im_end|>") + len(text.replace("<|im_end|>", ""))
        return chat(choice("x"), usage=(tokens, 1))

    return behave


@pytest.mark.parametrize(
    ("length", "said"), [(1, "stay control tokens"), (6, "none of"), (0, "takes control tokens out")]
)
def test_control_tokens_are_measured_by_what_a_prompt_is_charged(length: int, said: str) -> None:
    with Stub(counting(length)) as stub:
        backend = Openai(f"tiny@{stub.url}")
        (note,) = backend.notes
        count = len(stub.bodies)
        assert backend.notes == (note,)
    assert said in note
    assert "<|im_end|>" in note
    assert len(stub.bodies) == count  # once
    assert all(body["max_tokens"] == 1 for body in stub.bodies)


def test_a_server_that_counts_nothing_is_not_taken_for_a_safe_one() -> None:
    with Stub(lambda n, b: say("x")) as stub:
        assert "could not be measured" in Openai(f"tiny@{stub.url}").notes[0]
    assert Openai("tiny@http://127.0.0.1:9/v1").notes == ()  # nobody there


def test_nothing_is_measured_at_somebody_s_cost() -> None:
    with Stub(lambda n, b: say("x")) as stub:
        for settings in ({"budget": "9calls"}, {"server": "plain"}, {"server": "openai"}):
            assert Openai(f"tiny@{stub.url}", **settings).notes == ()  # type: ignore[arg-type]
    assert stub.bodies == []


@pytest.mark.parametrize("word", ["response_format", "structured_outputs", "guided_json", "json_schema"])
def test_a_schema_goes_along_under_the_server_s_own_name(word: str) -> None:
    def behave(number: int, body: dict[str, Any]) -> Act:
        if word not in body:
            return say("Hello!")
        return say('{"kept": "yes"}' if "kept" in json.dumps(body[word]) else '{"a": 1}')

    with Stub(behave) as stub:
        backend = Openai(f"tiny@{stub.url}", backoff=0.01)
        asked = [Example(f"{i}", (Message("user", ("how many?",)),)) for i in range(3)]
        found = list(backend.generate(asked, Decoding(schema=SCHEMA)))
    assert [r.text for r in found] == ['{"a": 1}'] * 3
    assert sum("Say hello." in json.dumps(b) for b in stub.bodies) <= 4


def test_a_server_that_refuses_other_names_is_asked_on() -> None:
    def behave(number: int, body: dict[str, Any]) -> Act:
        if "response_format" in body:
            return refuse(400, "unknown field")
        return say('{"kept": "yes"}' if "guided_json" in body else "Hello!")

    with Stub(behave) as stub:
        found = list(Openai(f"tiny@{stub.url}").generate(
            [Example("0", (Message("user", ("?",)),))], Decoding(schema=SCHEMA)))  # fmt: skip
    assert found[0].said


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama.cpp", "plain"])
def test_json_of_line_breaks_alone_ends(kind: Any) -> None:
    body = sampling(Decoding(schema=SCHEMA), kind)
    assert any(set(stop) == {"\n"} for stop in body["stop"])
    assert "stop" not in sampling(Decoding(), kind)
    pretty = json.dumps({"a": [{"b": "line\n\n\n\nbreaks"}]}, indent=4)
    assert not any(stop in pretty for stop in body["stop"])  # whole JSON is never cut
