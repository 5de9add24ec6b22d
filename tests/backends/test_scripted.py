"""Scripts answer like any backend, and their failures are responses too."""

from pathlib import Path

import pytest

from vlmend.backends import response_id
from vlmend.backends.scripted import REFUSAL, Scripted
from vlmend.errors import VlmendError
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
