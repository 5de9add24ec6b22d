"""What may be asked of a served model: all that is sent is honored, or refused by name."""

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from tests.defences.conftest import picture
from tests.front.conftest import asking
from vlmend.front.requests import Declined, completion, events, read
from vlmend.servers.chat import messages, read_reply, sampling
from vlmend.servers.pictures import Caps
from vlmend.types import Decoding, Finish, Message, Response, content_of


def wish(**more: Any) -> Any:
    return read(json.dumps(asking("Hello.", **more)).encode(), "tiny")


CONVERSATION = (
    Message("system", ("Be brief.",)),
    Message("user", (picture("red"), "What is it?", picture("blue"), "And <image> that?")),
    Message("assistant", ("Two pictures.",)),
    Message("user", ("Sure?",)),
)


def test_a_conversation_arrives_as_it_was_sent() -> None:
    body = {"model": "tiny", "messages": messages(CONVERSATION, Caps())[0]}
    found = read(json.dumps(body).encode(), "tiny").request.prompt
    assert content_of(found) == content_of(CONVERSATION)
    assert [message.role for message in found] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    "how",
    [
        Decoding(max_new_tokens=7),
        Decoding(max_new_tokens=9, do_sample=True, temperature=0.7, top_p=0.9, top_k=5, min_new_tokens=2),
        Decoding(repetition_penalty=1.25),
    ],
)  # fmt: skip
def test_a_decoding_arrives_as_it_was_sent(how: Decoding) -> None:
    body = {**asking("Hello."), **sampling(how, "vlmend"), **({"seed": 5} if how.do_sample else {})}
    found = read(json.dumps(body).encode(), "tiny").request.decoding
    assert found == replace(how, seed=5 if how.do_sample else 0)


def test_what_is_drawn_without_a_seed_is_drawn_anew_and_with_one_again() -> None:
    seeds = [wish(temperature=1).request.decoding.seed for _ in range(8)]
    assert len(set(seeds)) == 8
    assert [wish(temperature=1, seed=3).request.decoding.seed for _ in range(2)] == [3, 3]
    assert wish().request.decoding.seed == wish().request.decoding.seed == 0, "nothing is drawn"


def test_earlier_reasoning_goes_with_its_turn() -> None:
    turns = [
        {"role": "user", "content": "Is it hot?"},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "It glows.", "refusal": None},
        {"role": "user", "content": "Sure?"},
    ]
    found = read(json.dumps({"model": "tiny", "messages": turns}).encode(), "tiny").request.prompt[1]
    assert found.text == "<think>\nIt glows.\n</think>\n\nYes."


def test_what_changes_no_answer_may_be_said() -> None:
    more = {"n": 1, "stop": None, "logprobs": False, "frequency_penalty": 0.0, "user": "me", "store": False}
    assert wish(**more, response_format={"type": "text"}, min_p=0.0).request == wish().request


URL = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
FILE = {"type": "image_url", "image_url": {"url": "/etc/hostname"}}
BROKEN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"), (b"\xff", "no JSON"), (b"[" * 100_000, "no JSON"), ([], "JSON object"),
        ({"messages": []}, "model is missing; it is tiny"), (asking("a", n=2), "n 2 cannot be honored"),
        (asking("a", tempratur=1), "Did you mean 'temperature'?"), (asking("a", logprobs=True), "logprobs True"),
        (asking("a", response_format={"type": "json_object"}), "response_format"),
        (asking("a", stop=["\n"]), "stop ['\\n'] cannot be honored"), (asking("a", tools=[{}]), "tools"),
        (asking("a", temperature="warm"), "temperature lies between"), (asking("a", temperature=-1), "temperature"),
        (asking("a", temperature=True), "temperature"), (asking("a", top_p=0, temperature=1), "top_p"),
        (asking("a", max_tokens=0), "max_tokens is a whole number from 1"), (asking("a", max_tokens=1.5), "whole"),
        (asking("a", max_tokens=1, max_completion_tokens=2), "one setting under two names"),
        (asking("a", stream="yes"), "stream should be true or false"),
        (asking("a", stream_options={"include": 1}), "include_usage"),
        (asking("a", messages=[]), "a list of messages"), (asking("a", messages=[{"role": "user"}]), "a message in"),
        (asking("a", messages=[{"role": "tool", "content": "a"}]), "no speaker 'tool'"),
        (asking("a", messages=[{"role": "assistant", "content": "a"}]), "the last message is to be the user's"),
        (asking("a", messages=[{"role": "user", "content": "a", "name": "Ann"}]), "'name' of a message"),
        (asking({"type": "input_audio"}), "input_audio"), (asking(URL), "pictures come inline"),
        (asking(FILE), "pictures come inline"), (asking(BROKEN), "is not a readable picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_refused_by_name(body: object, said: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Declined) as refused:
        read(data, "tiny")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.status == HTTPStatus.BAD_REQUEST


def test_another_model_is_not_here() -> None:
    with pytest.raises(Declined, match="this server has other") as refused:
        read(json.dumps(asking("a")).encode(), "other")
    assert refused.value.status == HTTPStatus.NOT_FOUND


SAID = Response(
    "id", "example", "No.", Finish.STOP, tokens=30, seconds=2.5, reasoning="It is hot.", prompt_tokens=200, calls=3,
    why="the guard said nothing", hurried=True,
)  # fmt: skip


def test_an_answer_is_read_as_it_was_written() -> None:
    reply = read_reply(json.loads(json.dumps(completion(SAID, "tiny"))))
    [answer] = reply.answers
    assert (answer.text, answer.reasoning, answer.finish, answer.why) == ("No.", "It is hot.", Finish.STOP, SAID.why)
    assert (reply.tokens, reply.prompt_tokens, reply.calls, reply.hurried) == (30, 200, 3, True)
    blocked = Response("id", "example", "", Finish.BLOCKED)
    assert read_reply(completion(blocked, "tiny")).answers[0].finish is Finish.BLOCKED


def test_a_stream_says_the_same_in_pieces() -> None:
    *rows, end = [
        line.removeprefix(b"data: ") for line in b"".join(events(SAID, "tiny", usage=True)).split(b"\n\n")[:-1]
    ]
    pieces = [json.loads(row) for row in rows]
    whole = completion(SAID, "tiny")
    assert end == b"[DONE]"
    assert pieces[0]["choices"][0]["delta"] == whole["choices"][0]["message"]
    assert [p["choices"][0]["finish_reason"] for p in pieces[:2]] == [None, "stop"]
    assert pieces[2]["usage"] == whole["usage"]
    assert len(list(events(SAID, "tiny", usage=False))) == 3
