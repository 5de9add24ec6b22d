"""The one door to a judge's model: nothing is asked twice, no budget is crossed, no failure becomes a reply."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.judge.asking import MODEL, Model, Weigher, models
from vlmend.errors import ConfigError, ModelError, StoreError, UsageError
from vlmend.judge.models import AT_ONCE, PATIENCE, Models, Prompt, Reply
from vlmend.money import Budget, Price, Prices, Purse, Usage, estimate
from vlmend.store.cache import Cache
from vlmend.types import Decoding, Example, Finish, Image, Message, Response


def prompts(texts: Sequence[str]) -> list[Prompt]:
    return [(Message("user", (text,)),) for text in texts]


def answers(at: Models, texts: Sequence[str], longest: int = 8) -> list[Reply]:
    found = dict(at.ask("j", MODEL, prompts(texts), Decoding(max_new_tokens=longest)))
    return [found[i] for i in range(len(texts))]


def test_equal_questions_are_asked_once_and_replies_find_their_places(tmp_path: Path) -> None:
    model = Model(str.upper)
    texts = ["a", "b", "a", "c", "b"]
    assert [r.text for r in answers(models(model, tmp_path), texts)] == ["A", "B", "A", "C", "B"]
    assert len(model.asked) == 3
    again = models(model, tmp_path)
    assert [r.text for r in answers(again, texts)] == ["A", "B", "A", "C", "B"]
    assert (len(model.asked), again.purse.known, again.purse.spent) == (3, 3, {})


def test_another_model_or_decoding_is_another_question(tmp_path: Path) -> None:
    model = Model(str.upper)
    answers(models(model, tmp_path), ["a"])
    answers(models(replace(model, fingerprint="other"), tmp_path), ["a"])
    answers(models(model, tmp_path), ["a"], longest=9)
    assert len(model.asked) == 3


def test_the_same_words_about_another_picture_are_another_question(tmp_path: Path) -> None:
    """And the same bytes, wherever they come from, are the same one."""
    model = Model(str.upper)
    for content in (b"a", b"b", b"a"):
        prompt = (Message("user", (Image(make=lambda content=content: content), "Is it safe?")),)
        [(_, reply)] = models(model, tmp_path).ask("j", MODEL, [prompt], Decoding())
        assert reply.text == "IS IT SAFE?"
    assert [example.images[0].read() for example in model.asked] == [b"a", b"b"]


def test_what_failed_is_asked_again_and_what_was_said_is_not(tmp_path: Path) -> None:
    def moody(text: str) -> str:
        if text == "b" and not healed:
            raise RuntimeError("HTTP 500")
        return "" if text == "silent" else text

    healed: list[bool] = []
    model = Model(moody)
    first = answers(models(model, tmp_path), ["a", "b", "silent"])
    assert [(r.text, bool(r.why)) for r in first] == [("a", False), ("", True), ("", True)]
    assert "HTTP 500" in first[1].why
    healed.append(True)
    again = answers(models(model, tmp_path), ["a", "b", "silent"])
    assert [r.text for r in again] == ["a", "b", ""]
    assert [e.question for e in model.asked[3:]] == ["b"]


def test_a_backend_that_crashes_loses_only_what_it_did_not_say(tmp_path: Path) -> None:
    class Crashing(Model):
        def generate(self, examples, decoding):
            for number, response in enumerate(super().generate(examples, decoding)):
                if number == 2:
                    raise ConnectionError("gone")
                yield response

    replies = answers(models(Crashing(str.upper), tmp_path), ["a", "b", "c", "d"])
    assert sorted(r.text for r in replies) == ["", "", "C", "D"]
    assert {r.why for r in replies if not r.text} == {"the judge's model: ConnectionError: gone"}
    assert [r.text for r in answers(models(Model(str.upper), tmp_path), ["c", "d"])] == ["C", "D"]


def test_a_model_that_is_down_is_not_asked_for_ever() -> None:
    def down(text: str) -> str:
        raise RuntimeError("HTTP 503")

    model = Model(down)
    at = models(model)
    replies = answers(at, [str(i) for i in range(4 * AT_ONCE)])
    assert len(model.asked) == PATIENCE
    assert all(r.lost and not r.text for r in replies)
    assert replies[0].why == f"not asked: {MODEL} failed 25 times in a row, last: the judge's model: HTTP 503"
    assert [r.why for r in answers(at, ["another judge's"])] == [replies[0].why]  # nor does anybody else find out again
    assert len(model.asked) == PATIENCE


def test_failures_in_a_row_are_counted_across_batches() -> None:
    """A judge that asks few questions at a time, as a panel's does, is no more patient than one that asks many."""

    def ill(text: str) -> str:
        if text == "well":
            return text
        raise RuntimeError("HTTP 503")

    model = Model(ill)
    at = models(model)
    for i in range(10):
        answers(at, [f"{i}/{j}" for j in range(2)])
    answers(at, ["well"])
    for i in range(20):
        answers(at, [f"{i}:{j}" for j in range(2)])
    assert len(model.asked) == 20 + 1 + PATIENCE


def test_a_model_that_can_answer_nothing_is_asked_nothing_more() -> None:
    class Locked(Model):
        def generate(self, examples, decoding):
            self.asked.extend(examples[:1])
            raise ModelError("HTTP 401: no such key")
            yield

    model = Locked(str.upper)
    at = models(model)
    replies = [*answers(at, ["a", "b", "c"]), *answers(at, ["again"])]
    assert len(model.asked) == 1
    assert all(r.lost and "no such key" in r.why for r in replies)


def test_what_the_judge_cannot_read_is_asked_again(tmp_path: Path) -> None:
    """Also what an earlier version stored although nobody could read it."""
    model, at = Model(str.upper), models(Model(str.upper), tmp_path)
    answers(at, ["a", "b"])  # this judge takes anything

    def strictly(model: Model) -> list[str]:
        at, decoding = models(model, tmp_path), Decoding(max_new_tokens=8)
        replies = at.ask("j", MODEL, prompts(["a", "b"]), decoding, lambda text: text in ("A", "better"))
        return [reply.text for _, reply in sorted(replies)]

    assert strictly(model) == ["A", "B"]
    assert [e.question for e in model.asked] == ["b"]
    assert strictly(model) == ["A", "B"]
    assert [e.question for e in model.asked] == ["b", "b"]
    model.reply = lambda _: "better"
    assert strictly(model) == strictly(model) == ["A", "better"]
    assert [e.question for e in model.asked] == ["b", "b", "b"]


class Full(Cache):
    """Has no room for the third reply and for the fourth, and some again for those after them."""

    tried: ClassVar[list[str]] = []

    def put(self, key: str, value: Mapping[str, object]) -> None:
        self.tried.append(str(value["text"]))
        if len(self.tried) in (3, 4):
            raise StoreError("cache of verdicts C cannot be used (database or disk is full)")
        super().put(key, value)


class Server(Model):
    """Takes questions as there is room, four at a time, and answers in order."""

    def generate(self, examples, decoding):
        todo, flying = iter(examples), deque[Example]()
        while True:
            while len(flying) < 4 and (example := next(todo, None)) is not None:
                self.asked.append(example)
                flying.append(example)
            if not flying:
                return
            done = flying.popleft()
            yield Response(done.id, done.id, self.reply(done.question), Finish.STOP, tokens=5, prompt_tokens=self.read)


def test_a_full_disk_stops_asking_and_drops_no_reply(tmp_path: Path) -> None:
    """What a server was asked already is waited for and handed on; what was not asked is not paid for."""
    Full.tried.clear()
    spec, model = "openai:judge@http://127.0.0.1:9/v1", Server(str.upper)
    at = Models(spec, cache=Full(tmp_path / "c"), loaded={spec: model})  # pyright: ignore[reportArgumentType]
    heard: list[str] = []
    replies = at.ask("j", spec, prompts([f"q{i}" for i in range(100)]), Decoding())
    with pytest.raises(StoreError, match="is full"):
        heard.extend(reply.text for _, reply in replies)
    assert heard == [f"Q{i}" for i in range(6)]  # two are stored, four were on their way when the third was not
    assert [e.question for e in model.asked] == [f"q{i}" for i in range(6)]
    assert Full.tried == heard
    at = replace(at, cache=Cache(tmp_path / "c"))
    known = at.ask("j", spec, prompts(["q0", "q1", "q4", "q5"]), Decoding())
    assert {reply.text for _, reply in known} == {"Q0", "Q1", "Q4", "Q5"}
    assert len(model.asked) == 6


def test_whoever_stops_reading_loses_nothing_that_was_paid_for(tmp_path: Path) -> None:
    """As when the run folder's disk is full: what is on its way ends up in the cache."""
    spec, model = "openai:judge@http://127.0.0.1:9/v1", Server(str.upper)
    at = Models(spec, cache=Cache(tmp_path / "c"), loaded={spec: model})  # pyright: ignore[reportArgumentType]
    replies = at.ask("j", spec, prompts([f"q{i}" for i in range(100)]), Decoding())
    assert next(replies)[1].text == "Q0"
    replies.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(model.asked) == 4
    again = at.ask("j", spec, prompts([f"q{i}" for i in range(4)]), Decoding())
    assert sorted(reply.text for _, reply in again) == ["Q0", "Q1", "Q2", "Q3"]
    assert len(model.asked) == 4


PRICES = Prices({"judge": Price(1.0, 2.0)})


@pytest.mark.parametrize("read", [20, 400])  # 400: the server puts a long system prompt before every question
@pytest.mark.parametrize("budget", [Budget(37, "calls"), Budget(6_000, "tokens")])
def test_a_budget_is_used_and_never_crossed(budget: Budget, read: int, tmp_path: Path) -> None:
    purse = Purse(Prices(), budget)
    model = Model(str.upper, read=read)
    replies = answers(models(model, tmp_path, purse), [f"question {i}" for i in range(300)])
    spent = purse.spent[MODEL]
    used = spent.calls if budget.unit == "calls" else spent.input + spent.output
    dearest = 1 if budget.unit == "calls" else 500
    assert budget.amount - dearest <= used <= budget.amount
    said = [r for r in replies if r.text]
    assert len(said) == spent.calls == len(model.asked)
    assert all("budget" in r.why and r.lost for r in replies if not r.text)
    answers(models(model, tmp_path), [f"question {i}" for i in range(300)])
    assert len(model.asked) == 300  # with money, the rest and no more


def test_money_needs_a_price() -> None:
    spec = "openai:judge@https://api.example.org/v1"
    assert PRICES.of(spec) == Price(1.0, 2.0)
    Purse(PRICES, Budget(1.0)).check(spec)
    Purse(Prices(), Budget(5, "calls")).check(spec)
    with pytest.raises(UsageError, match="no price is known for 'judge'"):
        Purse(Prices(), Budget(1.0)).check(spec)
    assert Prices().of("world") == Prices().of("openai:x@http://localhost:8000/v1") == Price(0, 0)
    assert Usage(1, 1_000_000, 500_000).cost(Price(1.0, 2.0)) == pytest.approx(2.0)


def test_room_counts_whole_calls() -> None:
    purse = Purse(PRICES, Budget(10e-6))
    most = [Usage(1, 2, 1)] * 5  # 4e-6 each
    model = "openai:judge@https://x/v1"
    assert purse.room(model, most) == 2
    purse.pay(model, Usage(1, 2, 1), most[0])
    assert purse.room(model, most) == 1
    purse.pay(model, Usage(1, 3, 1), most[0])  # more than the most
    assert purse.room(model, most) == 0


@pytest.mark.parametrize("text", ["why is the sky blue? " * 40, "为什么天空是蓝色的？" * 40, "🙂" * 100, ""])
def test_the_most_is_never_less_than_a_byte_tokenizer_makes(text: str) -> None:
    about, most = estimate((Message("user", (text,)),), 64)
    assert about.input <= most.input
    assert most.input >= len(text.encode())
    assert most.output == 64
    picture = Image(make=lambda: b"x")
    assert estimate((Message("user", (picture, text)),), 64)[1].input > most.input + 1000


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2.50", Budget(2.5)),
        ("$3", Budget(3.0)),
        ("500calls", Budget(500, "calls")),
        ("2Mtokens", Budget(2e6, "tokens")),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "much", "-3", "3 apples"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(UsageError, match=r"2\.50"):
        Budget.parse(text)


def test_a_dry_run_asks_nothing_and_adds_up(tmp_path: Path) -> None:
    model = Model(str.upper)
    answers(models(model, tmp_path), ["a"])
    purse = Purse(dry=True)
    replies = answers(models(model, tmp_path, purse), ["a", "b", "c", "b"])
    assert (len(model.asked), purse.known, purse.expected[MODEL][0].calls) == (1, 1, 2)
    assert [r.text for r in replies] == ["A", "", "", ""]
    assert purse.spent == {}


def test_nobody_judges_itself() -> None:
    model = Model(str.upper)
    with pytest.raises(UsageError, match="the model under test"):
        models(model).testing(MODEL).chosen("j", "")
    with pytest.raises(UsageError, match="the model under test"):
        answers(models(model).testing("another name", "model"), ["a"])
    with pytest.raises(UsageError, match="name it with --judge-model"):
        Models().chosen("j", "")
    assert not model.asked


def test_likelihoods_are_known_too(tmp_path: Path) -> None:
    model = Weigher(str.upper, weight=lambda e, answer: None if e.question == "long" else -float(len(answer)))
    at = models(model, tmp_path)
    found = dict(at.weigh("j", MODEL, prompts(["q", "long"]), ("yes", "no")))
    assert found[0].weights == {"yes": -3.0, "no": -2.0}
    assert found[1].weights is None
    assert "too long" in found[1].why
    before = len(model.asked)
    assert dict(at.weigh("j", MODEL, prompts(["q"]), ("yes", "no")))[0].weights == {"yes": -3.0, "no": -2.0}
    assert len(model.asked) == before
    with pytest.raises(UsageError, match="name a local model"):
        list(models(Model(str)).weigh("j", MODEL, prompts(["q"]), ("yes", "no")))


def test_price_files(tmp_path: Path) -> None:
    from vlmend.money import load_prices

    file = tmp_path / "p.yaml"
    file.write_text("currency: EUR\nmodels:\n  m-*: {input: 1, output: 2}\n  m-small: {input: 0.5, output: 1}\n")
    prices = load_prices(file)
    assert prices.of("openai:m-small@https://x/v1") == Price(0.5, 1)
    assert prices.of("openai:m-large@https://x/v1") == Price(1, 2)
    assert prices.of("openai:other@https://x/v1") is None
    for bad in ("models: [1]", "nothing: 1", "models: {m: {input: -1, output: 0}}", "models: {m: {input: 1}}", ":"):
        file.write_text(bad)
        with pytest.raises(ConfigError, match=r"p\.yaml"):
            load_prices(file)
    assert load_prices().of("openai:gpt-4o-2024-08-06@https://x/v1")


def test_what_runs_here_is_on_no_bill() -> None:
    purse, usage = Purse(), Usage(3, 100, 20)
    purse.pay("world", usage)
    assert purse.lines() == ["nothing to pay: no server is asked"]
    purse.pay("openai:tiny@https://y.example/v1", usage)
    [line] = purse.lines()
    assert line.startswith("openai:tiny")
    dry = Purse(dry=True)
    dry.expect("world", usage, usage)
    assert dry.lines() == ["about world: 3 calls, 100 tokens in, 20 out; it runs here and costs nothing"]
