"""Laws of asking servers: nothing is lost, nothing unreadable passes for an answer, keys stay hidden, budgets hold."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.conftest import write
from tests.servers.stub import Act, Behave, Stub, asked, chat, choice, refuse, say
from vlmend.backends.openai import Openai
from vlmend.cli import main
from vlmend.errors import ConfigError, ModelError, UsageError
from vlmend.types import Decoding, Example, Finish, Image, Message, Response

SECRET = "sk-very-secret-0123456789"


def questions(n: int) -> list[Example]:
    return [Example(f"e{i}", (Message("user", (f"question {i}",)),)) for i in range(n)]


def backend(stub: Stub, **settings: Any) -> Openai:
    return Openai(f"tiny@{stub.url}", **{"server": "plain", "backoff": 0.01, "timeout": 5.0, **settings})


def answers(model: Openai, examples: Sequence[Example], decoding: Decoding | None = None) -> dict[str, Response]:
    found = list(model.generate(examples, decoding or Decoding()))
    assert len({(r.example_id, r.sample) for r in found}) == len(found)
    return {r.example_id: r for r in found}


def collect(model: Openai, examples: Sequence[Example], into: list[Response]) -> None:
    """Keep each answer as it comes, as a run folder does."""
    for response in model.generate(examples, Decoding()):
        into.append(response)


def echo(number: int, body: dict[str, Any]) -> Act:
    del number
    return say(f"to {asked(body)}")


def right(found: dict[str, Response], examples: Sequence[Example]) -> bool:
    return all(found[e.id].text == f"to {e.question}" and found[e.id].finish is Finish.STOP for e in examples)


# Good servers


def test_every_question_gets_its_own_answer_within_the_window() -> None:
    examples = questions(40)
    with Stub(lambda n, b: say(f"to {asked(b)}", delay=random.random() / 50)) as stub:
        found = answers(backend(stub, window=6), examples)
    assert right(found, examples)
    assert len(stub.bodies) == 40
    assert 1 < stub.most <= 6
    one = found["e3"]
    assert (one.tokens, one.prompt_tokens, one.model) == (3, 10, f"openai:tiny@{stub.url}")
    assert one.seconds > 0


def test_examples_are_taken_when_there_is_room() -> None:
    class Counted(list[Example]):
        taken = 0

        def __iter__(self) -> Iterator[Example]:
            for example in super().__iter__():
                Counted.taken += 1
                yield example

    with Stub(lambda n, b: say("yes", delay=0.02)) as stub:
        stream = backend(stub, window=4).generate(Counted(questions(500)), Decoding())
        next(stream)
        assert Counted.taken <= 6
        stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("server", "requests"), [("vllm", 1), ("plain", 3)])
def test_several_answers_to_a_prompt(server: str, requests: int) -> None:
    def several(number: int, body: dict[str, Any]) -> Act:
        return chat(*(choice(f"a{i}", index=i) for i in range(body.get("n", 1))), usage=(7, 5))

    with Stub(several) as stub:
        decoding = Decoding(do_sample=True, num_return_sequences=3, first_sample=1, seed=10)
        found = list(backend(stub, server=server).generate(questions(1), decoding))
    assert sorted(r.sample for r in found) == [1, 2, 3]
    assert len(stub.bodies) == requests
    assert len({b["seed"] for b in stub.bodies}) == requests
    assert sum(r.tokens for r in found) == 5 * requests
    assert sum(r.prompt_tokens for r in found) == 7 * requests


def test_answers_that_are_missing_are_asked_for() -> None:
    with Stub(lambda n, b: say("only one")) as stub:
        decoding = Decoding(do_sample=True, num_return_sequences=3)
        found = list(backend(stub, server="vllm").generate(questions(1), decoding))
    assert sorted(r.sample for r in found) == [0, 1, 2]
    assert all(r.said for r in found)


def test_reasoning_is_no_part_of_the_answer() -> None:
    with Stub(lambda n, b: say("<think>so</think> yes") if n else say("<think>so and", "length")) as stub:
        cut, whole = (answers(backend(stub), questions(1))["e0"] for _ in range(2))
    assert (whole.text, whole.reasoning) == ("yes", "so")
    assert (cut.text, cut.reasoning, cut.said) == ("", "so and", False)
    assert "reasoning" in cut.why


def test_pictures_go_inline_and_broken_ones_fail_alone(tmp_path: Path) -> None:
    from tests.servers.test_pictures import encoded, noise

    good, bad = Image(make=lambda: encoded(noise(), "PNG")), Image(path=tmp_path / "missing.png")
    examples = [Example(n, (Message("user", (i, "what?")),)) for n, i in (("good", good), ("bad", bad))]
    with Stub(lambda n, b: say("noise")) as stub:
        found = answers(backend(stub), examples)
    assert found["good"].said
    assert found["bad"].finish is Finish.FAILED
    assert "missing.png" in found["bad"].why
    assert [p["type"] for p in stub.bodies[0]["messages"][0]["content"]] == ["image_url", "text"]


def test_the_kind_of_server_is_asked_for_once() -> None:
    with Stub(echo, models={"tiny": "vllm"}) as stub:
        answers(backend(stub, server="auto"), questions(2))
    assert stub.bodies[0]["repetition_penalty"] == 1.0


def test_identity_is_what_decides_answers() -> None:
    one = Openai("a@http://127.0.0.1:1/v1")
    assert one.fingerprint == Openai("a@http://127.0.0.1:1/v1/", window=2, timeout=1, budget="3calls").fingerprint
    others = [
        Openai("b@http://127.0.0.1:1/v1"), Openai("a@http://127.0.0.1:2/v1"), Openai("a"),
        Openai("a@http://127.0.0.1:1/v1", revision="2"), Openai("a@http://127.0.0.1:1/v1", omit="top_p"),
        Openai("a@http://127.0.0.1:1/v1", extra='{"reasoning_effort": "low"}'),
    ]  # fmt: skip
    assert len({one.fingerprint, *(o.fingerprint for o in others)}) == 7


# Hostile servers

BODY = say("yes").body
HOSTILE: dict[str, Act] = {
    "busy": refuse(429, headers={"retry-after": "0.05"}),
    "crash": refuse(500),
    "away": refuse(503, headers={"retry-after": "0.05"}),
    "hang": Act(body=BODY, delay=3.0),
    "cut": Act(body=BODY, cut=True),
    "wrong JSON": Act(body=BODY[:-9]),
    "HTML": Act(body=b"<html>hello</html>"),
    "no choices": chat(),
    "drip": Act(body=BODY, drip=0.05),
    "error with 200": Act(body=b'{"error": {"message": "overloaded"}}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_trouble_that_passes_is_overcome(name: str) -> None:
    examples, slow = questions(6), name in ("hang", "drip")
    with Stub(lambda n, b: HOSTILE[name] if n in (0, 2, 3) else echo(n, b)) as stub:
        found = answers(backend(stub, timeout=1.0 if slow else 60.0), examples)
    assert right(found, examples)
    # on a busy machine an honest answer, too, may take longer than a second and be asked for again
    assert len(stub.bodies) >= 9 if slow else len(stub.bodies) == 9


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"busy", "hang", "drip"}))
def test_trouble_that_stays_is_a_failure_with_a_reason(name: str) -> None:
    examples = questions(4)
    with Stub(lambda n, b: HOSTILE[name] if asked(b) == "question 2" else echo(n, b)) as stub:
        found = answers(backend(stub, retries=2), examples)
    lost = found.pop("e2")
    assert (lost.finish, lost.text, lost.said) == (Finish.FAILED, "", False)
    assert "gave up after 3 tries" in lost.why
    assert right(found, [e for e in examples if e.id != "e2"])
    assert len(stub.bodies) == 3 + 3


def test_any_mixture_of_trouble_leaves_no_false_answer() -> None:
    examples = questions(60)
    draw = random.Random(3)
    kinds = [HOSTILE[k] for k in sorted(HOSTILE.keys() - {"hang", "drip"})]

    def hostile(number: int, body: dict[str, Any]) -> Act:
        return draw.choice(kinds) if draw.random() < 0.4 else echo(number, body)

    with Stub(hostile) as stub:
        found = answers(backend(stub, retries=3), examples)
    assert found.keys() == {e.id for e in examples}
    for example in examples:
        response = found[example.id]
        assert (response.text == f"to {example.question}") == response.said == (response.finish is Finish.STOP)
        assert response.said or response.why


@pytest.mark.parametrize(
    ("act", "finish"),
    [
        (say("half", "length"), Finish.LENGTH),
        (say("", "content_filter"), Finish.BLOCKED),
        (refuse(400, code="content_filter"), Finish.BLOCKED),
        (say(""), Finish.STOP),
        (chat(choice(None, "tool_calls")), Finish.FAILED),
        (refuse(400, "too long"), Finish.FAILED),
        (refuse(413, "too large"), Finish.FAILED),
    ],
)
def test_what_ends_otherwise_says_so_and_is_asked_once(act: Act, finish: Finish) -> None:
    examples = questions(3)
    with Stub(lambda n, b: act if asked(b) == "question 1" else echo(n, b)) as stub:
        found = answers(backend(stub), examples)
    odd = found.pop("e1")
    assert odd.finish is finish
    assert odd.said == (finish is Finish.LENGTH)
    assert odd.said or odd.why
    assert right(found, [examples[0], examples[2]])
    assert len(stub.bodies) == 3


def test_everybody_waits_as_long_as_the_server_asks() -> None:
    with Stub(lambda n, b: refuse(429, headers={"retry-after": "0.6"}) if n == 4 else echo(n, b)) as stub:
        answers(backend(stub, window=2), questions(12))
    after = [t - stub.times[4] for t in stub.times[5:]]
    early = [t for t in after if t < 0.55]  # on their way before the refusal was read
    assert len(early) <= 2
    assert len(after) - len(early) >= 6  # the refused one among them


def test_fewer_at_a_time_when_the_server_has_enough() -> None:
    at_once: list[int] = []

    def small(number: int, body: dict[str, Any]) -> Act:
        at_once.append(stub.now)
        act = refuse(429) if stub.now > 3 else say(f"to {asked(body)}")
        return replace(act, delay=0.03)

    examples = questions(120)
    with Stub(small) as stub:
        found = answers(backend(stub, window=32), examples)
    assert right(found, examples)
    assert max(at_once[len(at_once) // 2 :]) <= 10


# What concerns all


@pytest.mark.parametrize("status", [401, 403, 404, 402])
def test_wrong_key_or_model_ends_at_once(status: int) -> None:
    hostile = Stub(lambda n, b: refuse(status, "not for you"), models={"tinier": "x"})
    with hostile as stub, pytest.raises(ModelError, match=f"HTTP {status}: not for you"):
        answers(backend(stub), questions(50))
    assert len(stub.bodies) == 1


def test_an_unknown_model_comes_with_those_that_are_there() -> None:
    with Stub(lambda n, b: refuse(404), models={"tinier": "x"}) as stub, pytest.raises(ModelError, match="tinier"):
        answers(backend(stub), questions(1))


def test_a_refused_form_ends_at_once_and_a_refused_question_does_not() -> None:
    with Stub(lambda n, b: refuse(422, "unknown field")) as stub:
        with pytest.raises(ModelError, match="unknown field"):
            answers(backend(stub), questions(50))
        assert len(stub.bodies) == 2  # the question, and a harmless one to know
    with Stub(lambda n, b: refuse(422, "bad") if "question" in asked(b) else say("hi")) as stub:
        found = answers(backend(stub), questions(9))
        assert {r.finish for r in found.values()} == {Finish.FAILED}
        assert len(stub.bodies) == 10


def test_nobody_there_is_one_clear_error_and_no_failed_responses() -> None:
    model = Openai("tiny@http://127.0.0.1:9/v1", server="plain", patience=0.2, backoff=0.01)
    with pytest.raises(ModelError, match=r"tiny at http://127.0.0.1:9/v1: no server answers there"):
        answers(model, questions(5))


def test_a_server_that_asks_for_hours_ends_the_run_and_what_came_is_kept() -> None:
    found: list[Response] = []
    hostile = Stub(lambda n, b: refuse(429, headers={"retry-after": "7200"}) if n >= 3 else echo(n, b))
    with hostile as stub, pytest.raises(ModelError, match="7200 s"):
        collect(backend(stub, window=1), questions(9), found)
    assert len(stub.bodies) == 4
    assert len(found) == 3


def deaf(number: int, body: dict[str, Any]) -> Act:
    """Takes every request and says nothing, as a server whose engine has died."""
    del number, body
    return Act(body=b"", delay=2.0)


def test_a_server_that_hangs_ends_the_run_and_is_not_waited_for_with_every_question() -> None:
    """Sixty questions of six tries each would take six minutes here, and six days with the usual time limit."""
    with Stub(deaf) as stub, pytest.raises(ModelError, match=r"no answer for .* s: no whole answer within 0\.3 s"):
        answers(backend(stub, timeout=0.3, patience=0.5), questions(60))
    assert len(stub.bodies) < 60


def test_a_question_that_makes_the_server_hang_spoils_no_other() -> None:
    """Also where it comes last, and nothing but it is asked for longer than patience lasts."""
    examples = questions(5)
    with Stub(lambda n, b: deaf(n, b) if asked(b) == "question 4" else echo(n, b)) as stub:
        found = answers(backend(stub, timeout=1.0, patience=0.5, retries=2, window=1), examples)
    assert "gave up after 3 tries: no whole answer within 1 s" in found.pop("e4").why
    assert right(found, examples[:4])
    assert "Hello." in map(asked, stub.bodies)  # a harmless question told that the server is well


def test_a_server_that_fails_all_ends_the_run_after_some() -> None:
    with Stub(lambda n, b: refuse(500, "out of order")) as stub:
        with pytest.raises(ModelError, match=r"25 requests failed in a row, last: HTTP 500: out of order"):
            answers(backend(stub, retries=1, window=8), questions(400))
        assert len(stub.bodies) <= 2 * (25 + 8) + 2  # those on their way, and a harmless one


def test_questions_that_a_well_server_fails_on_are_all_tried() -> None:
    examples = questions(60)
    with Stub(lambda n, b: refuse(500) if "question" in asked(b) and asked(b) < "question 50" else echo(n, b)) as stub:
        found = answers(backend(stub, retries=0), examples)
    well = [e for e in examples if e.question >= "question 50"]
    assert {e.id for e in examples if found[e.id].finish is Finish.STOP} == {e.id for e in well}
    assert found.keys() == {e.id for e in examples}
    assert right(found, well)


# Keys


@pytest.mark.parametrize("how", ["answers", "refuses", "fails"])
def test_keys_are_in_no_file_and_no_message(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    acts: dict[str, Behave] = {
        "answers": echo,
        "refuses": lambda n, b: refuse(401, f"Incorrect API key provided: {SECRET}"),
        "fails": lambda n, b: refuse(400, f"bad request with key {SECRET}") if asked(b) != "Hello." else say("hi"),
    }
    data, out = write(tmp_path / "VLGuard", safe=2, unsafe=2), tmp_path / "run"
    with Stub(acts[how]) as stub:
        spec = f"openai:tiny@{stub.url}?server=plain&key_env=MY_KEY"
        code = main(["generate", "--model", spec, "--suite", f"vlguard:{data}#test", "--out", str(out), "--json"])
        assert {h.get("authorization") or h.get("Authorization") for h in stub.headers} == {f"Bearer {SECRET}"}
    assert code == (2 if how == "refuses" else 0)
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err
    files = [p for p in out.rglob("*") if p.is_file()]
    assert files
    assert not any(SECRET.encode() in p.read_bytes() for p in files)


def test_openais_key_goes_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Stub(echo) as stub:
        answers(backend(stub), questions(1))
    assert SECRET not in json.dumps(stub.headers)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("m", {"key_env": SECRET}), ("m", {"key_env": "abcdef0123456789"}),
        (f"m@http://user:{SECRET}@host/v1", {}), (f"m@http://host/v1?api-key={SECRET}", {}),
    ],
)  # fmt: skip
def test_keys_in_the_wrong_place_are_refused_and_not_repeated(model: str, settings: dict[str, Any]) -> None:
    from vlmend.registry import backends

    with pytest.raises(ModelError) as caught:
        backends.build("openai", {"model": model, **settings})
    assert SECRET not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="OPENAI_API_KEY is not set"):
        answers(Openai("gpt"), questions(1))


# Budgets


@pytest.mark.parametrize("window", [1, 8])
def test_a_budget_in_calls_is_never_crossed(window: int) -> None:
    found: list[Response] = []
    with Stub(lambda n, b: refuse(500) if n % 4 == 1 else echo(n, b)) as stub:
        with pytest.raises(UsageError, match="15 calls"):
            collect(backend(stub, window=window, budget="15calls"), questions(40), found)
        assert len(stub.bodies) == 15
    assert len(found) == 11


def test_a_budget_in_tokens_is_never_crossed() -> None:
    def used(number: int, body: dict[str, Any]) -> Act:
        if number % 5 == 2:
            return Act(body=BODY, cut=True)
        return chat(choice("yes"), usage=(20, body["max_tokens"]))

    with Stub(used) as stub:
        model = backend(stub, budget="5ktokens")
        with pytest.raises(UsageError, match="budget"):
            answers(model, questions(400), Decoding(max_new_tokens=50))
    charged = 70 * len(stub.bodies)  # what broke off may have been charged for too
    assert 2_500 < charged <= 5_000


def test_money_needs_a_price(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {mine: {input: 1000, output: 1000}}")
    with pytest.raises(UsageError, match="price"):
        answers(Openai("other@http://models.test/v1", server="plain", budget="1.50", prices=prices), questions(1))
    with Stub(lambda n, b: chat(choice("yes"), usage=(10, 5))) as stub:
        model = Openai(f"mine@{stub.url}", server="plain", budget="0.50", prices=prices)
        with pytest.raises(UsageError, match=r"0\.50"):
            answers(model, questions(400), Decoding(max_new_tokens=5))
        assert 0.2 < 0.015 * len(stub.bodies) <= 0.50
        assert model.account.purse.cost() == pytest.approx(0.015 * len(stub.bodies))


# Ctrl-C


def test_an_interrupt_keeps_what_was_on_its_way() -> None:
    def interrupting(number: int, body: dict[str, Any]) -> Act:
        if number == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return say(f"to {asked(body)}", delay=0.2)

    found: list[Response] = []
    before = signal.getsignal(signal.SIGINT)
    with Stub(interrupting) as stub:
        with pytest.raises(KeyboardInterrupt):
            collect(backend(stub), questions(200), found)
        assert len(found) == len(stub.bodies) < 60
    assert all(r.said for r in found)
    assert signal.getsignal(signal.SIGINT) is before


# Batches


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLMEND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def states(cache: Path) -> list[Path]:
    return list(cache.rglob("*.json"))


def batched(stub: Stub) -> Openai:
    return backend(stub, batch=True, poll=0.01, patience=2.0)


def test_batches_answer_like_requests(cache: Path) -> None:
    examples = questions(7)
    trouble: Callable[[int, dict[str, Any]], Act] = lambda n, b: refuse(500) if n == 3 else echo(n, b)  # noqa: E731
    with Stub(trouble) as stub:
        found = answers(batched(stub), examples)
    assert found.pop("e3").finish is Finish.FAILED
    assert right(found, [e for e in examples if e.id != "e3"])
    assert len(stub.batches) == 1
    assert not states(cache)


def test_a_batch_whose_making_was_not_heard_of_is_found_again(cache: Path) -> None:
    examples = questions(5)
    with Stub(echo) as stub:
        stub.lost_batches = 1
        with pytest.raises(ModelError, match="looked for"):
            answers(batched(stub), examples)
        assert len(states(cache)) == 1
        assert right(answers(batched(stub), examples), examples)
        assert len(stub.batches) == 1
        assert len(stub.bodies) == 5
    assert not states(cache)


def test_a_killed_run_takes_its_batch_up_and_asks_only_what_is_new(cache: Path) -> None:
    examples = questions(6)
    with Stub(echo) as stub:
        stream = batched(stub).generate(examples[:4], Decoding())
        first = [next(stream), next(stream)]
        stream.close()  # type: ignore[attr-defined]
        rest = [e for e in examples if e.id not in {r.example_id for r in first[:1]}]
        assert right(answers(batched(stub), rest), rest)
        assert len(stub.bodies) == 6
    assert not states(cache)


def test_settings_that_cannot_be_meant() -> None:
    for settings in ({"window": 0}, {"retries": -1}, {"extra": "[]"}, {"extra": '{"model": "x"}'}, {"extra": "{"}):
        with pytest.raises(ConfigError):
            Openai("a@http://127.0.0.1:1/v1", **settings)  # type: ignore[arg-type]
    with Stub(echo) as stub, pytest.raises(ConfigError, match="'top_p'"):
        answers(backend(stub, omit="top_q"), questions(1))
