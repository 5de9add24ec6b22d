"""A budget for thinking on a server: open reasoning is ended by a second request, and all else is as without one."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.defences.conftest import Talker
from tests.front.conftest import served
from tests.servers.stub import Act, Stub, chat, choice, refuse
from vlmend.backends import response_id
from vlmend.backends.openai import Job
from vlmend.errors import ConfigError, ModelError, UsageError
from vlmend.evaluate.estimate import Counting
from vlmend.money import Purse, estimate
from vlmend.reasoning import THINK, first_step, second_step
from vlmend.registry import backend_for
from vlmend.servers.chat import Answer
from vlmend.servers.hurried import Opened, ended
from vlmend.types import Decoding, Example, Finish, Message, Response

ROW = Example("row", (Message("user", ("Is it hot?",)),))
STORY = "<think>A ring glows.</think>It is hot."
MARK = "\n</think>\n\n"


class Letters(Stub):
    """A server whose tokens are letters, and whose template ends prompts with `opening`."""

    opening = "assistant\n"

    def post(self, path: str, data: bytes, headers: dict[str, str]) -> Act:
        body = json.loads(data)
        if path == "/tokenize":
            text = body.get("prompt", f"user Hello. {self.opening}")
            return Act(body=json.dumps({"tokens": [ord(t) for t in text], "count": len(text)}).encode())
        if path == "/detokenize":
            return Act(body=json.dumps({"prompt": "".join(map(chr, body["tokens"]))}).encode())
        return super().post(path, data, headers)


def telling(story: str, after: str = "Yes.") -> Callable[[int, dict[str, Any]], Act]:
    """Says the story as far as there is room, and `after` to go on with a turn."""

    def behave(number: int, body: dict[str, Any]) -> Act:
        text = after if body.get("continue_final_message") else story
        room = body["max_tokens"]
        finish = "length" if len(text) > room else "stop"
        return chat(choice(text[:room], finish), usage=(10, min(len(text), room)))

    return behave


def asked(stub: Stub, how: Decoding, kind: str = "vllm") -> Response:
    [response] = backend_for(f"openai:tiny@{stub.url}?server={kind}&retries=0&backoff=0.01").generate([ROW], how)
    return response


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_open_reasoning_is_ended_and_goes_on_in_the_same_turn(kind: str) -> None:
    how = Decoding(max_new_tokens=60, thinking_budget=13)
    with Letters(telling(STORY)) as stub:
        response = asked(stub, how, kind)
        name = response_id(backend_for(f"openai:tiny@{stub.url}?server={kind}").fingerprint, ROW, how)
    first, second = stub.bodies
    assert first["max_tokens"] == 13
    assert "continue_final_message" not in first
    assert second["messages"][:-1] == first["messages"]
    assert second["messages"][-1] == {"role": "assistant", "content": f"<think>A ring{MARK}"}
    assert (second["add_generation_prompt"], second["continue_final_message"]) == (False, True)
    said = 13 + len(MARK)
    assert second["max_tokens"] == 60 - said
    assert (response.reasoning, response.text, response.hurried) == ("A ring", "Yes.", True)
    assert (response.tokens, response.prompt_tokens, response.finish) == (said + 4, 10, Finish.STOP)
    assert response.id == name


@pytest.mark.parametrize("budget", [len(STORY.partition("It")[0]), 35, 59])
def test_what_is_in_no_reasoning_then_is_as_without_a_budget(budget: int) -> None:
    with Letters(telling(STORY)) as stub:
        free = asked(stub, Decoding(max_new_tokens=60))
        held = asked(stub, Decoding(max_new_tokens=60, thinking_budget=budget))
    assert replace(held, id="", seconds=0.0) == replace(free, id="", seconds=0.0)
    assert len(stub.bodies) == (3 if budget < len(STORY) else 2)


def test_reasoning_that_the_template_opens_is_ended_too() -> None:
    with Letters(telling("A ring glows.</think>It is hot.")) as stub:
        stub.opening = "assistant\n<think>\n"
        response = asked(stub, Decoding(max_new_tokens=60, thinking_budget=6))
    assert stub.bodies[-1]["messages"][-1]["content"] == f"<think>\nA ring{MARK}"
    assert (response.reasoning, response.text) == ("A ring", "Yes.")


def test_a_server_that_tells_reasoning_apart_is_understood() -> None:
    def behave(number: int, body: dict[str, Any]) -> Act:
        if body.get("continue_final_message"):  # no mark comes, so that all is taken for reasoning
            return chat(choice(None, "stop", reasoning_content="Yes."), usage=(20, 4))
        return chat(choice(None, "length", reasoning_content="A ring"), usage=(10, 6))

    with Letters(behave) as stub:
        response = asked(stub, Decoding(max_new_tokens=60, thinking_budget=6))
    assert (response.reasoning, response.text, response.hurried) == ("A ring", "Yes.", True)


def test_an_answer_that_the_mark_leaves_no_room_for_is_cut() -> None:
    with Letters(telling(STORY)) as stub:
        response = asked(stub, Decoding(max_new_tokens=20, thinking_budget=13))
    assert len(stub.bodies) == 1
    assert (response.tokens, response.finish, response.hurried, response.said) == (20, Finish.LENGTH, True, False)


def test_a_server_that_goes_on_with_no_turn_says_so_for_all() -> None:
    story = telling(STORY)
    with (
        Letters(
            lambda _, body: refuse(400, "no such turn") if "continue_final_message" in body else story(0, body)
        ) as stub,
        pytest.raises(ModelError, match="no such turn"),
    ):
        asked(stub, Decoding(max_new_tokens=60, thinking_budget=13))
    assert stub.bodies[-1]["messages"][0]["content"] == "Hello.", "something harmless was tried in the same form"


def test_who_cannot_goes_on_refusing_and_says_who_can() -> None:
    how = Decoding(max_new_tokens=60, thinking_budget=13)
    with Letters(telling(STORY)) as stub:
        with pytest.raises(UsageError, match=r"of kind plain, cannot end .* servers of kind vllm, sglang and vlmend"):
            asked(stub, how, "plain")
        with pytest.raises(ConfigError, match="leaves nothing"):
            asked(stub, replace(how, thinking_budget=60))
    assert not stub.bodies


def test_our_own_server_has_a_word_for_it() -> None:
    seen: list[Decoding] = []

    def reply(example: Example, decoding: Decoding, sample: int) -> str:
        seen.append(decoding)
        return "Yes."

    with served(Talker(reply=reply)) as front:
        spec = f"openai:tiny@http://127.0.0.1:{front.server_port}/v1"
        [response] = backend_for(spec).generate([ROW], Decoding(max_new_tokens=60, thinking_budget=13))
    assert response.text == "Yes."
    assert [how for how in seen if how.max_new_tokens == 60] == [Decoding(max_new_tokens=60, thinking_budget=13)]


def test_a_dry_run_counts_the_second_request_among_what_there_may_be_at_most() -> None:
    purse = Purse()
    counting = Counting(backend_for("scripted:refuse"), "tiny", purse)
    assert not list(counting.generate([ROW], Decoding(max_new_tokens=60)))
    about, most = purse.expected["tiny"]
    assert not list(counting.generate([ROW], Decoding(max_new_tokens=60, thinking_budget=13)))
    more_about, more_most = (now - before for now, before in zip(purse.expected["tiny"], (about, most), strict=True))
    assert more_about == about
    assert more_most == most + replace(most, input=most.input + 13)


def test_what_goes_back_is_reserved_as_what_is_read() -> None:
    job = Job(ROW, (0,), Decoding(max_new_tokens=60))
    going = replace(job, turn="<think>Hm</think>")
    assert estimate(going.prompt, 60)[1].input > estimate(job.prompt, 60)[1].input + len(going.turn) - 1


def test_both_steps_together_have_the_room_of_the_whole() -> None:
    how = Decoding(max_new_tokens=60, min_new_tokens=20, thinking_budget=13, do_sample=True, num_return_sequences=3)
    first, second = first_step(how), second_step(how, 25, 2)
    assert (first.max_new_tokens, first.min_new_tokens, first.thinking_budget, len(first.samples)) == (13, 13, 0, 3)
    assert (second.max_new_tokens, second.min_new_tokens, second.thinking_budget) == (35, 0, 0)
    assert second.samples == range(2, 3)


@pytest.mark.parametrize(
    ("answer", "turn"),
    [
        (Answer("<think>Hm", Finish.LENGTH), f"<think>Hm{MARK}"), (Answer("<think>Hm", Finish.STOP), None),
        (Answer("<think>Hm</think>Yes", Finish.LENGTH), None), (Answer("Yes", Finish.LENGTH), None),
        (Answer("◁think▷Hm", Finish.LENGTH), "◁think▷Hm\n◁/think▷\n\n"),
        (Answer("", Finish.LENGTH, reasoning="Hm"), f"<think>\nHm{MARK}"),
        (Answer("Yes", Finish.LENGTH, reasoning="Hm"), None),
    ],
)  # fmt: skip
def test_only_open_reasoning_is_ended_by_the_mark_it_was_opened_with(answer: Answer, turn: str | None) -> None:
    found = ended(answer, None)
    assert (found[0] if found else None) == turn
    begun = Opened(THINK, "<think>\n")
    assert ended(Answer("Hm", Finish.LENGTH), begun) == (f"<think>\nHm{MARK}", MARK)
