"""A served model answers through the chain that `vlmend eval --defence` uses, whatever is sent to its port."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.defences.conftest import Marks, Talker, marks, picture
from tests.front.conftest import Reply, answers, asking, post, served
from tests.judge.asking import Model
from tests.judge.asking import models as judging
from vlmend.backends import refuse_budget
from vlmend.cli import main
from vlmend.defences import REFUSAL
from vlmend.errors import ModelError
from vlmend.front import server
from vlmend.front.answers import Answers
from vlmend.judge.models import PATIENCE
from vlmend.registry import backend_for
from vlmend.servers.pictures import Caps, data_url
from vlmend.store import Run
from vlmend.types import Backend, Decoding, Example, Finish, Response

__all__ = ["marks"]  # a fixture


class Odd(Talker):
    """A model that fails in the way that a request names."""

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for response in super().generate(examples, decoding):
            asked = next(e.question for e in examples if e.id == response.example_id)
            if asked == "away":
                raise ModelError("nobody there")
            if asked == "crash":
                raise ZeroDivisionError("a bug")
            finish = {"fail": Finish.FAILED, "block": Finish.BLOCKED, "long": Finish.LENGTH}.get(asked, response.finish)
            yield replace(
                response, finish=finish, text="" if finish in (Finish.FAILED, Finish.BLOCKED) else response.text
            )


def test_an_answer_is_that_of_the_chain_and_its_usage_that_of_all_calls() -> None:
    talker = Talker(reply=lambda e, d, s: "no" if "Begin with yes or no" in e.question else "Here you are.")
    with served(talker, "ecso") as front:
        shown = {"type": "image_url", "image_url": {"url": data_url(picture(), Caps())[0]}}
        reply = post(front, asking(shown, {"type": "text", "text": "Go on."}))
    assert reply.status == 200
    assert reply.text == "Here you are."
    assert reply.data["vlmend"]["calls"] == len(talker.asked) == 2
    assert reply.data["usage"] == {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}


def test_a_guard_refuses_before_and_behind_the_model(marks: type[Marks]) -> None:
    talker = Talker()
    with served(talker, "guard_in:(marks:bomb)") as front:
        assert post(front, asking("a bomb")).text == REFUSAL
        assert not talker.asked
        assert post(front, asking("a cake")).text.startswith("a cake")
    with served(Talker(reply=lambda e, d, s: "a bomb"), "guard_out:(marks:bomb)") as front:
        assert post(front, asking("a cake")).text == REFUSAL


def test_a_chain_has_its_first_defence_outermost() -> None:
    with served(talker := Talker(), "reminder", "system_prompt") as front:
        row = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{front.server_port}/v1/models").read())["data"][0]
        post(front, asking("Hello."))
    assert row["vlmend"]["defences"] == ["reminder", "system_prompt"]
    [seen] = talker.asked
    assert [message.role for message in seen.prompt] == ["system", "user"]
    assert "Hello." in seen.question != "Hello."


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [("away", 503, "nobody there"), ("crash", 500, "ZeroDivisionError"), ("fail", 502, "failed")],
)
def test_what_fails_is_an_error_and_the_next_request_is_answered(
    asked: str, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(Odd()) as front, caplog.at_level(logging.CRITICAL):
        reply = post(front, asking(asked))
        assert (reply.status, said in reply.error) == (status, True)
        assert reply.data["error"]["type"] == "server_error"
        assert post(front, asking("well")).status == 200


def test_one_request_that_cannot_be_answered_is_the_error_of_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Of requests that are given to the model together; a setting that the model lacks is the request's fault."""
    gate = threading.Event()

    class Held(Odd):
        def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
            gate.wait(10)
            refuse_budget(decoding, "this model")
            return super().generate(examples, decoding)

    with served(Held()) as front, caplog.at_level(logging.CRITICAL):
        threading.Timer(0.5, gate.set).start()
        texts = [asking(text) for text in ("first", "crash", "second", "away")]
        replies = answers(front, [*texts, asking("third", thinking_budget=9)])
    assert [reply.status for reply in replies] == [200, 500, 200, 503, 400]
    assert "this model cannot end the reasoning" in replies[4].error


def test_a_guard_that_was_away_is_asked_again() -> None:
    away = threading.Event()
    away.set()

    def reply(text: str) -> str:
        if away.is_set():
            raise RuntimeError("away")
        return "safe"

    with served(Talker(), "guard_in:(guard)", models=judging(Model(reply))) as front:
        refused = [post(front, asking(f"question {n}")) for n in range(PATIENCE + 2)]
        assert {answer.text for answer in refused} == {REFUSAL}
        assert "guard said nothing" in refused[-1].data["vlmend"]["why"]
        away.clear()
        assert post(front, asking("a cake")).text.startswith("a cake")


def test_how_an_answer_ended_is_told() -> None:
    with served(Odd()) as front:
        ends = {q: post(front, asking(q)).data["choices"][0]["finish_reason"] for q in ("block", "long", "fine")}
    assert ends == {"block": "content_filter", "long": "length", "fine": "stop"}


def test_what_waits_is_answered_together_each_its_own() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    class Slow(Talker):
        def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
            sizes.append(len(examples))
            gate.wait(10)
            return super().generate(examples, decoding)

    with served(Slow()) as front:
        threading.Timer(0.5, gate.set).start()
        replies = answers(front, [asking(f"question {n}") for n in range(12)])
    assert [reply.text.partition(" |")[0] for reply in replies] == [f"question {n}" for n in range(12)]
    assert sum(sizes) == 12
    assert len(sizes) <= 3, "one batch while another computes"


@pytest.mark.parametrize(
    ("send", "status", "said"),
    [
        (partial(post, body=asking("a"), path="/v1/completions"), 404, "nothing is at /v1/completions"),
        (partial(post, body=b"", **{"Content-Type": "text/plain"}), 415, "application/json"),
        (partial(post, body=b"x" * (server.PIECE + 1)), 413, "are the most that is read"),
        (partial(post, body=b"{"), 400, "no JSON"),
    ],
)
def test_what_is_no_request_is_declined(
    send: Callable[..., Reply], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LARGEST", server.PIECE)
    with served(Talker()) as front:
        reply = send(front)
        assert (reply.status, said in reply.error) == (status, True)
        assert post(front, asking("a")).status == 200


def raw(port: int, *lines: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\r\n".join(lines))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(partial(connection.recv, 65536), b""))


def test_a_request_by_hand_and_ones_that_break_off() -> None:
    with served(Talker()) as front:
        port = front.server_port
        raw(
            port,
            b"POST /v1/chat/completions HTTP/1.1",
            b"Content-Type: application/json",
            b"Content-Length: 900",
            b"",
            b"{",
        )
        raw(port, b"nonsense", b"", b"")
        assert b" 411 " in raw(port, b"POST /v1/chat/completions HTTP/1.1", b"Host: a", b"", b"")
        assert b" 405 " in raw(port, b"GET /v1/chat/completions HTTP/1.1", b"Host: a", b"", b"")
        data = json.dumps(asking("Hello.", max_tokens=4, stream=True)).encode()
        head = (b"POST /v1/chat/completions HTTP/1.1", b"Host: a", b"Content-Type: application/json")
        said = raw(port, *head, b"Content-Length: %d" % len(data), b"", data)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/event-stream\r\n" in said
    assert b'"content": "Hello. | 0 | False | 0"' in said
    assert said.endswith(b"data: [DONE]\n\n")


def test_ending_sends_what_is_being_answered_and_refuses_what_waits() -> None:
    begun, gate = threading.Event(), threading.Event()

    class Held(Talker):
        def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
            begun.set()
            gate.wait(10)
            return super().generate(examples, decoding)

    replies: dict[str, Reply] = {}
    with served(Held()) as front:

        def send(text: str) -> None:
            replies[text] = post(front, asking(text))

        threads = [threading.Thread(target=send, args=(text,)) for text in ("first", "second")]
        threads[0].start()
        begun.wait(10)
        threads[1].start()
        time.sleep(0.3)
        threading.Timer(0.2, gate.set).start()
    for thread in threads:
        thread.join()
    assert replies["first"].status == 200
    assert (replies["second"].status, replies["second"].error) == (503, "the server is ending")


def test_one_on_a_server_is_asked_abreast_and_others_batch_by_batch() -> None:
    class Paid(Talker):
        account = None

    from vlmend.evaluate.defend import chain_from
    from vlmend.judge.models import Models

    def threads(backend: Backend, *specs: str) -> int:
        made = Answers(backend, chain_from(specs, Models()), Models(), abreast=5)
        made.close()
        return len(made.threads)

    assert threads(Paid(), "reminder") == 5
    assert threads(Paid(), "guard_out:(exact)") == 1, "judges are asked from one thread"
    assert threads(Talker(), "reminder") == 1


def test_the_official_client_is_answered() -> None:
    openai = pytest.importorskip("openai")
    with served(Talker(), "reminder") as front:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{front.server_port}/v1", api_key="none", max_retries=0)
        assert [model.id for model in client.models.list()] == ["tiny"]
        turns: list[Any] = [{"role": "user", "content": "Hello."}]
        whole = client.chat.completions.create(model="tiny", messages=turns, temperature=0)
        pieces = list(client.chat.completions.create(model="tiny", messages=turns, temperature=0, stream=True))
        assert "Hello." in whole.choices[0].message.content
        assert "".join(p.choices[0].delta.content or "" for p in pieces) == whole.choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="stop"):
            client.chat.completions.create(model="tiny", messages=turns, stop=["x"])


def test_a_served_defence_in_front_of_a_served_model_is_the_defence() -> None:
    """Two of our servers, one asking the other; failures of the one behind come through."""
    with served(Odd()) as behind:
        spec = f"openai:tiny@http://127.0.0.1:{behind.server_port}/v1?retries=0&backoff=0.01"
        with served(backend_for(spec), "reminder") as front:
            assert "a cake" in post(front, asking("a cake")).text
            reply = post(front, asking("block"))
    assert reply.status == 200


# The embedded model, served and evaluated


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steering") / "saved"
    data = "world:safety?openers=balanced&n=24#train"
    assert main(["steer", "fit", "world", "--data", data, "--out", str(folder)]) == 0
    return folder


def test_an_evaluation_of_what_is_served_is_that_of_the_model_behind_the_defence(steered: Path, tmp_path: Path) -> None:
    suite = ["--suite", "world", "--limit", "9", "--max-new-tokens", "24", "--max-unscored", "1"]
    world = backend_for("world")
    for number, chain in enumerate(("ecso", "smoothing:2 + reminder", f"steer:{steered}?strength=3")):
        here, there = tmp_path / f"here{number}", tmp_path / f"there{number}"
        assert main(["eval", "--model", "world", "--defence", chain, *suite, "--out", str(here)]) == 0
        with served(world, chain, name="world") as front:
            spec = f"openai:world@http://127.0.0.1:{front.server_port}/v1"
            assert main(["eval", "--model", spec, *suite, "--out", str(there)]) == 0
        found = [
            {r.example_id: (r.text, r.finish, r.tokens, r.prompt_tokens, r.calls) for r in Run(f).responses().values()}
            for f in (here, there)
        ]
        assert len(found[0]) == 9
        assert found[0] == found[1], chain


# The command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--defence", "ecso", "--with", "vllm"], "--with is for engines"),
        (["--defence", "ecso", "--max-model-len", "9"], "--max-model-len is for engines"),
        (["--judge-model", "world"], "name one with --defence"), (["--defence", "ecs"], "Did you mean 'ecso'?"),
        (["--defence", "steer:nowhere"], "nowhere"), (["--defence", "guard_out:rubric:harm"], "--judge-model"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "scripted:refuse", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Talker()) as front:
        assert main(["serve", "scripted:refuse", "--defence", "none", "--port", str(front.server_port)]) == 2
    assert "nothing can listen at 127.0.0.1" in capsys.readouterr().err


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["serve", "scripted:refuse", "--defence", "reminder", "--port", str(port), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from vlmend.cli import main; sys.exit(main())", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["defence"] == ["reminder"]
        assert told["model"].startswith(f"openai:refuse@http://127.0.0.1:{port}/v1?server=vlmend&revision=")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as page:
            assert json.load(page) == {"status": "ok"}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
