"""What is sent says every setting or refuses it; what comes back is an answer only when it is one."""

import json
from typing import Any, get_args

import pytest

from tests.servers.stub import choice
from vlmend.errors import ConfigError
from vlmend.servers.chat import Kind, Unreadable, error_text, messages, read_reply, sampling
from vlmend.servers.outcome import Again, Answered, Refused, outcome
from vlmend.servers.pictures import Caps
from vlmend.types import Decoding, Finish, Message

KINDS = get_args(Kind)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_said_and_storage_is_off(kind: Kind) -> None:
    body = sampling(Decoding(max_new_tokens=7), kind)
    assert body["store"] is False
    assert body["max_completion_tokens" if kind == "openai" else "max_tokens"] == 7
    if kind == "transformers":
        assert json.loads(body["generation_config"])["do_sample"] is False
    else:
        assert body["temperature"] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", 5), ("repetition_penalty", 1.2), ("min_new_tokens", 3), ("num_beams", 2), ("no_repeat_ngram_size", 3)],
)
def test_a_setting_is_sent_or_refused_never_dropped(kind: Kind, name: str, value: Any) -> None:
    plain = Decoding(do_sample=True)
    asked = Decoding(do_sample=True, **{name: value})
    known = {
        "transformers": {"top_k", "repetition_penalty", "min_new_tokens", "num_beams", "no_repeat_ngram_size"},
        "vllm": {"top_k", "repetition_penalty", "min_new_tokens"},
        "sglang": {"top_k", "repetition_penalty", "min_new_tokens"},
        "vlmend": {"top_k", "repetition_penalty", "min_new_tokens"},
        "llama.cpp": {"top_k", "repetition_penalty"},
    }
    if name not in known.get(kind, set()):
        with pytest.raises(ConfigError, match=name):
            sampling(asked, kind)
        return
    body = sampling(asked, kind)
    assert body != sampling(plain, kind)
    assert str(value) in json.dumps(body)


def test_a_schema_is_part_of_the_request() -> None:
    schema = {"type": "object", "properties": {"safe": {"type": "boolean"}}}
    body = sampling(Decoding(schema=json.dumps(schema)), "openai")
    assert body["response_format"]["json_schema"]["schema"] == schema
    with pytest.raises(ConfigError, match="schema"):
        sampling(Decoding(schema=json.dumps(schema)), "transformers")


def test_turns_and_parts_keep_their_order() -> None:
    prompt = (Message("system", ("be kind",)), Message("user", ("a", "b")), Message("assistant", ("c",)))
    rows, lost = messages(prompt, Caps())
    assert [row["role"] for row in rows] == ["system", "user", "assistant"]
    assert rows[0]["content"] == "be kind"
    assert [part["text"] for part in rows[1]["content"]] == ["a", "b"]
    assert lost == ""


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", Finish.STOP), ("eos_token", Finish.STOP), ("length", Finish.LENGTH), ("max_tokens", Finish.LENGTH),
        ("content_filter", Finish.BLOCKED), ("SAFETY", Finish.BLOCKED), ("tool_calls", Finish.FAILED),
        (None, Finish.FAILED), ("abort", Finish.FAILED), ("", Finish.FAILED),
    ],
)  # fmt: skip
def test_how_an_answer_ended(reason: Any, finish: Finish) -> None:
    answer = read_reply({"choices": [choice("yes", reason)]}).answers[0]
    assert answer.finish is finish
    assert bool(answer.why) == (finish in (Finish.FAILED, Finish.BLOCKED))


def test_refusals_and_reasoning_have_their_own_fields() -> None:
    refused = read_reply({"choices": [choice(None, refusal="I can't.")]}).answers[0]
    assert (refused.text, refused.finish) == ("I can't.", Finish.STOP)
    for field in ("reasoning", "reasoning_content"):
        thought = read_reply({"choices": [choice("4", **{field: "2+2"})]}).answers[0]
        assert (thought.text, thought.reasoning) == ("4", "2+2")
    empty = read_reply({"choices": [choice(None)]}).answers[0]
    assert empty.text == ""
    assert empty.why


def test_answers_come_in_the_order_of_their_index() -> None:
    reply = read_reply({"choices": [choice("b", index=1), choice("a", index=0)]})
    assert [a.text for a in reply.answers] == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        None, [], "text", {}, {"choices": None}, {"choices": []}, {"choices": ["x"]}, {"choices": [{}]},
        {"choices": [{"message": None}]}, {"choices": [choice(7)]}, {"choices": [choice("a")], "usage": 3},
        {"error": {"message": "broken"}, "choices": [choice("a")]},
    ],
)  # fmt: skip
def test_what_is_no_completion_is_no_answer(data: Any) -> None:
    with pytest.raises(Unreadable):
        read_reply(data)
    assert isinstance(outcome(200, {}, json.dumps(data).encode(), 0.0), Again)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_tried_again(status: int) -> None:
    assert isinstance(outcome(status, {}, b"", 0.0), Again)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 415, 422, 301, 307, 501])
def test_never_tried_again(status: int) -> None:
    found = outcome(status, {}, b'{"error": {"message": "no"}}', 0.0)
    assert isinstance(found, Refused)
    assert found.everything == (status in (401, 402, 403, 404, 405, 301, 307))


def test_a_filter_is_a_block_and_an_empty_account_is_final() -> None:
    filtered = outcome(400, {}, json.dumps({"error": {"code": "content_filter", "message": "x"}}).encode(), 0.0)
    assert isinstance(filtered, Refused)
    assert filtered.blocked
    broke = outcome(429, {}, json.dumps({"error": {"code": "insufficient_quota", "message": "x"}}).encode(), 0.0)
    assert isinstance(broke, Refused)
    assert broke.everything


def test_tokens_are_counted() -> None:
    body = {"choices": [choice("a")], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    found = outcome(200, {}, json.dumps(body).encode(), 1.0)
    assert isinstance(found, Answered)
    assert (found.reply.prompt_tokens, found.reply.tokens) == (5, 2)


@pytest.mark.parametrize("body", [{"error": {"message": "m"}}, {"error": "m"}, {"detail": "m"}, {"message": "m"}, "m"])
def test_errors_of_all_shapes_are_read(body: Any) -> None:
    assert error_text(body) == "m"
