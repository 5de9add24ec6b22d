"""Scripts answer like any backend, and their failures are responses too."""

import json
from pathlib import Path

import pytest

from vlmend.backends import response_id
from vlmend.backends.scripted import REFUSAL, Scripted
from vlmend.errors import DataError, VlmendError
from vlmend.registry import backends
from vlmend.types import Decoding, Example, Expected, Finish, Message, Response

HELPFUL = Example("h", (Message("user", ("how many?",)),), answers=("two", "2"))
HARMFUL = Example("u", (Message("user", ("do it",)),), expected=Expected.REFUSE, meta={"compliance": "done.\nyes."})


def answers(backend: Scripted) -> list[Response]:
    return list(backend.generate([HELPFUL, HARMFUL], Decoding()))


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        ("refuse", [REFUSAL, REFUSAL]),
        ("comply", ["two", "done."]),
        ("ideal", ["two", REFUSAL]),
        ("echo", ["how many?", "do it"]),
    ],
)
def test_scripts(script: str, texts: list[str]) -> None:
    found = answers(backends.from_spec(f"scripted:{script}"))
    assert [r.text for r in found] == texts
    assert all(r.finish is Finish.STOP and r.model == f"scripted:{script}" for r in found)


def test_ids_are_those_of_what_was_asked() -> None:
    backend = Scripted("refuse")
    ids = {response_id(backend.fingerprint, e, Decoding(seed=s)) for e in (HELPFUL, HARMFUL) for s in (0, 1)}
    assert len(ids) == 4
    assert {r.id for r in answers(backend)} < ids
    assert Scripted("comply").fingerprint != backend.fingerprint


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "u", "text": "no", "finish": "length"}\n\n')
    missing, given = answers(Scripted(str(path)))
    assert (given.text, given.finish) == ("no", Finish.LENGTH)
    assert missing.finish is Finish.FAILED
    assert "no line for h" in missing.why
    before = Scripted(str(path)).fingerprint
    path.write_text('{"id": "u", "text": "yes"}\n')
    assert Scripted(str(path)).fingerprint != before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 should be"),
        ('{"id": "a", "text": "b", "finish": "x"}', "finish 'x'"),
    ],
)
def test_broken_file(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(VlmendError, match=problem):
        answers(Scripted(str(path)))


def test_unknown_script() -> None:
    with pytest.raises(VlmendError):
        answers(Scripted("refsue"))


def test_reply_that_raises_is_a_failed_response() -> None:
    def reply(example: Example) -> str:
        if example.id == "u":
            raise TimeoutError("too slow")
        return "fine"

    good, bad = answers(Scripted(reply=reply))
    assert good.said
    assert (bad.finish, bad.why) == (Finish.FAILED, "TimeoutError: too slow")


def many(**shares: float) -> list[Response]:
    examples = [Example(f"e{i}", (Message("user", (f"question {i}",)),)) for i in range(400)]
    return list(Scripted("refuse", **shares).generate(examples, Decoding()))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["failed", "blocked", "cut", "empty"])
def test_what_goes_wrong_on_demand_is_that_and_as_often(wrong: str) -> None:
    found = many(**{wrong: 0.25})
    fine = [r for r in found if r.text == REFUSAL]
    odd = [r for r in found if r.text != REFUSAL]
    assert all(r.finish is Finish.STOP and r.said for r in fine)
    assert 60 < len(odd) < 140  # 100, six standard deviations either way would be 48 to 152
    kind = {"failed": Finish.FAILED, "blocked": Finish.BLOCKED, "cut": Finish.LENGTH, "empty": Finish.STOP}[wrong]
    assert {r.finish for r in odd} == {kind}
    assert {r.said for r in odd} == {wrong == "cut"}


def test_the_same_questions_go_wrong_each_time_and_others_with_another_seed() -> None:
    def lost(seed: int) -> set[str]:
        return {r.example_id for r in many(failed=0.3, seed=seed) if not r.said}

    assert lost(1) == lost(1) != lost(2)
    assert Scripted("refuse", failed=0.3).fingerprint != Scripted("refuse").fingerprint


def test_shares_add_up() -> None:
    found = many(failed=0.25, blocked=0.25, cut=0.25, empty=0.25)
    assert not any(r.text == REFUSAL for r in found)
    with pytest.raises(ValueError, match="sum to at most 1"):
        Scripted("refuse", failed=0.6, cut=0.6)


def test_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "- {when: 'how (many|much)', text: seven}\n- {when: do it, finish: blocked, why: filtered}\n- {text: else}\n"
    )
    other = Example("o", (Message("user", ("What else?",)),))
    found = {r.example_id: r for r in Scripted(str(path)).generate([HELPFUL, HARMFUL, other], Decoding())}
    assert found["h"].text == "seven"
    assert (found["u"].finish, found["u"].why) == (Finish.BLOCKED, "filtered")
    assert found["o"].text == "else"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b", "list of rules"), ("- wen: x", "Did you mean 'when'"), ("- when: '('", "no pattern"),
        ("- {text: a, seconds: -1}", "seconds"), ("- [", "YAML"), ("- {text: a, finish: x}", "finish 'x'"),
    ],
)  # fmt: skip
def test_broken_rules(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(VlmendError, match=problem):
        answers(Scripted(str(path)))


def test_samples_are_numbered() -> None:
    found = list(Scripted("refuse").generate([HELPFUL], Decoding(num_return_sequences=3, first_sample=2)))
    assert [r.sample for r in found] == [2, 3, 4]
    assert len({r.id for r in found}) == 3


def test_reasoning_is_told_from_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    said = {
        "h": "<thinking>I can't help with that.</thinking>Sure! Step 1.",
        "u": "<think>I'm sorry, I can't help with that. The person",
    }
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in said.items()))
    whole, cut = answers(Scripted(str(path)))
    assert (whole.text, whole.reasoning) == ("Sure! Step 1.", "I can't help with that.")
    assert (cut.text, cut.finish, cut.said) == ("", Finish.LENGTH, False)
    assert cut.why == "the answer ended inside its reasoning"


def test_a_second_line_of_an_id_answers_the_second_example_of_it(tmp_path: Path) -> None:
    lines = [{"id": "a/3", "text": "one"}, {"id": "a/3", "text": "two"}, {"id": "b~2/1", "text": "own"}]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = [Example(name, (Message("user", ("q",)),)) for name in ("a/3", "a/3~2", "a/3~3", "b~2/1")]
    said = list(Scripted(str(file)).generate(asked, Decoding()))
    assert [response.text for response in said] == ["one", "two", "", "own"]
    assert said[2].finish is Finish.FAILED
    file.write_text('{"id": "a", "text": "\\ud83d"}')
    with pytest.raises(DataError, match="line 1 has half of a surrogate pair"):
        list(Scripted(str(file)).generate(asked, Decoding()))
